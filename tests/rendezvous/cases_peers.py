# SPDX-License-Identifier: Apache-2.0
"""Peers without the shim, of other users, and hostile ones."""
import random
import re
import shutil
import socket
import subprocess

import harness
from harness import Skip, build, case, expect_accelerated, expect_plain, wait_for

NOBODY = 65534


def calls_of(pair, server, shim):
    """System calls of a client with 6000 round trips: long enough for the offers to have ended."""
    out = f"{harness.DIR}/strace.{shim}"
    client = pair.client(server.address, "rounds=6000", shim=shim, under=("strace", "-f", "-c", "-o", out))
    with open(out, encoding="ascii") as file:
        totals = re.findall(r"^100\.00\s.*?(\d+)\s+(?:\d+\s+)?total$", file.read(), re.M)
    return int(totals[0]), client


@case
def plain_server_costs_little(pair):
    """The offers stop: few more calls than without the shim."""
    if not shutil.which("strace"):
        raise Skip("strace is not installed")
    server = pair.server("tcp:127.0.0.1:0", "mode=blocking", shim=False)
    without, _ = calls_of(pair, server, False)
    with_shim, client = calls_of(pair, server, True)
    expect_plain(client, "peer-plain")
    assert with_shim - without < 2000, f"{with_shim - without} more calls in 6000 round trips"


@case
def plain_client(pair):
    server = pair.server("tcp:127.0.0.1:0")
    pair.client(server.address, "rounds=5000", shim=False)
    expect_plain(server, "peer-plain")


@case
def many_connections_to_a_plain_server(pair):
    """The application's own descriptors are not used up by offers."""
    server = pair.server("tcp:127.0.0.1:0", shim=False)
    client = pair.start("client", "client", server.address, "conns=200", "rounds=60", "hold")
    client.done()
    assert client.descriptors() <= 200 + 50, client.descriptors()
    client.end()
    expect_plain(client)


# ---- users ----

def as_nobody():
    if not shutil.which("setpriv"):
        raise Skip("setpriv is not installed")
    result = subprocess.run(["setpriv", f"--reuid={NOBODY}", "--clear-groups", "/usr/bin/python3", "-c", "open('" +
                             harness.SHIM + "').close()"], capture_output=True, check=False)
    if result.returncode:
        raise Skip("another user cannot be used here")
    return ("setpriv", f"--reuid={NOBODY}", "--clear-groups")


@case
def foreign_user_tcp(pair):
    server = pair.server("tcp:127.0.0.1:0", under=as_nobody())
    client = pair.client(server.address)
    expect_plain(client, "foreign-user")
    expect_plain(server)


@case
def foreign_user_unix(pair):
    server = pair.server(f"unix:@shmipc-foreign-{random.random()}", under=as_nobody())
    client = pair.client(server.address)
    expect_plain(client)
    expect_plain(server)
    assert "foreign-user" in client.reasons() | server.reasons(), (client.reasons(), server.reasons())


@case
def foreign_user_permitted(pair):
    server = pair.server("tcp:127.0.0.1:0", under=as_nobody(), env={"SHMIPC_PEERS": "0"})
    client = pair.client(server.address, env={"SHMIPC_PEERS": str(NOBODY)})
    expect_accelerated(client)
    expect_accelerated(server)


@case
def foreign_user_permitted_by_one_side_only(pair):
    server = pair.server("tcp:127.0.0.1:0", under=as_nobody())
    client = pair.client(server.address, env={"SHMIPC_PEERS": str(NOBODY)})
    expect_plain(client)
    expect_plain(server, "foreign-user")


# ---- those who sit on the name, or connect to it ----

def squatted(pair, how):
    squat = build("squat", "preload/address.c")
    server = pair.server("tcp:127.0.0.1:0", "mode=blocking")
    port = random.randrange(20000, 30000)
    squatter = subprocess.Popen([squat, how, str(port), server.address.rsplit(":", 1)[1]], stdout=subprocess.PIPE)
    try:
        assert squatter.stdout.readline() == b"ready\n"
        client = pair.client(server.address, f"from={port}", "rounds=3000")
        expect_plain(client)
        expect_plain(server)
    finally:
        squatter.kill()
        squatter.wait()
        squatter.stdout.close()
    expect_accelerated(pair.client(server.address))


@case
def squatter_holds_the_name(pair):
    squatted(pair, "hold")


@case
def squatter_says_nothing(pair):
    squatted(pair, "silent")


@case
def squatter_answers_garbage(pair):
    squatted(pair, "garbage")


def offers():
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as table:
        return set(re.findall(r"@(shmipc\.1\.[0-9a-f]+)", table.read()))


def disturbed(pair, said):
    """A plain server, so that the offer stands; somebody of our own user connects to it."""
    before = offers()
    server = pair.server("tcp:127.0.0.1:0", "mode=blocking", shim=False)
    client = pair.start("client", "client", server.address, "rounds=30000")
    assert wait_for(lambda: offers() - before), "no offer was made"
    with socket.socket(socket.AF_UNIX) as intruder:
        intruder.connect("\0" + (offers() - before).pop())
        if said:
            intruder.sendall(said)
        client.done()
    client.end()
    expect_plain(client)


@case
def intruder_says_nothing(pair):
    disturbed(pair, b"")


@case
def intruder_says_garbage(pair):
    disturbed(pair, b"\x00\x00\x04\x00hmm" * 50)


@case
def signals_are_asked_for_in_the_middle_of_a_rendezvous(pair):
    """The offer stands, and nobody has come yet."""
    server = pair.server("tcp:127.0.0.1:0", env={"SHMIPC_UPGRADE_AFTER": "1000000"})
    client = pair.client(server.address, "conns=1", "rounds=40", "async", env={"SHMIPC_UPGRADE_AFTER": "2"})
    expect_plain(client, "option")
