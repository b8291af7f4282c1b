# SPDX-License-Identifier: Apache-2.0
"""Every kind of address, and every way to connect to it."""
import json
import os
import subprocess
import time

import harness
from harness import Namespace, Skip, case, expect_accelerated, expect_plain, run


def both_accelerated(pair, listen, dial=None, server=(), client=()):
    one = pair.server(listen, *server)
    target = one.address if dial is None else dial.replace("PORT", one.address.rsplit(":", 1)[1])
    other = pair.client(target, *client)
    expect_accelerated(other)
    expect_accelerated(one)
    return one, other


@case
def ipv4(pair):
    both_accelerated(pair, "tcp:127.0.0.1:0")


@case
def ipv6(pair):
    both_accelerated(pair, "tcp:[::1]:0")


@case
def ipv6_wildcard(pair):
    both_accelerated(pair, "tcp:[::]:0", "tcp:[::1]:PORT")


@case
def dual_stack_listener_ipv4_client(pair):
    both_accelerated(pair, "tcp:[::]:0", "tcp:127.0.0.1:PORT", server=("dual",))


@case
def ipv4_wildcard_127_0_0_2(pair):
    both_accelerated(pair, "tcp:0.0.0.0:0", "tcp:127.0.0.2:PORT")


@case
def own_address_of_an_interface(pair):
    with Namespace("own") as space:
        device = "dummy0"
        if run("ip", "-n", space.name, "link", "add", device, "type", "dummy", check=False).returncode:
            device = "lo"
        run("ip", "-n", space.name, "addr", "add", "10.77.0.1/24", "dev", device)
        run("ip", "-n", space.name, "link", "set", device, "up")
        server = pair.server("tcp:0.0.0.0:0", under=space.under())
        client = pair.client(server.address.replace("0.0.0.0", "10.77.0.1"), under=space.under())
        expect_accelerated(client)
        expect_accelerated(server)


@case
def unix_path(pair):
    both_accelerated(pair, f"unix:{harness.DIR}/path")


@case
def unix_relative_path(pair):
    both_accelerated(pair, "unix:relative")


@case
def unix_abstract(pair):
    both_accelerated(pair, f"unix:@shmipc-test-{os.getpid()}")


@case
def nonblocking_connect(pair):
    both_accelerated(pair, "tcp:127.0.0.1:0", client=("nonblock",))


@case
def written_before_accepted_tcp(pair):
    both_accelerated(pair, "tcp:127.0.0.1:0", server=("delay=0.5",))


@case
def written_before_accepted_unix(pair):
    both_accelerated(pair, f"unix:{harness.DIR}/early", server=("delay=0.5",))


@case
def big_messages(pair):
    both_accelerated(pair, "tcp:127.0.0.1:0", client=("bytes=300000", "rounds=40"))


@case
def shmipc_stat_agrees(pair):
    server = pair.server("tcp:127.0.0.1:0")
    client = pair.start("client", "client", server.address, "hold")
    client.done()
    out = subprocess.run([os.path.join(harness.BUILD, "shmipc-stat"), "--json"], capture_output=True, text=True,
                         timeout=10, check=True).stdout
    rows = {r["role"]: r for r in json.loads(out) if r["pid"] in (server.process.pid, client.process.pid)}
    assert set(rows) == {"client", "server"}, rows
    for row in rows.values():
        assert row["state"] == "accelerated" and row["ring_tx"] > 0 and row["ring_rx"] > 0, row
    client.end()


# ---- configuration ----

@case
def excluded_endpoint(pair):
    server = pair.server("tcp:127.0.0.1:0")
    port = server.address.rsplit(":", 1)[1]
    client = pair.client(server.address, endpoints=f"tcp:*,!tcp:*:{port}")
    assert not client.events("closed"), client.events("closed")
    server.kill()


@case
def not_configured_at_the_client(pair):
    server = pair.server("tcp:127.0.0.1:0")
    client = pair.client(server.address, endpoints="unix:*")
    assert not client.events("closed"), client.events("closed")
    expect_plain(server)


@case
def malformed_entries(pair):
    server = pair.server("tcp:127.0.0.1:0")
    client = pair.client(server.address, endpoints="nonsense,tcp:127.0.0.1:99999,tcp:*")
    expect_accelerated(client)
    complaints = [line for line in client.errors().splitlines() if line.startswith("shmipc:")]
    assert len(complaints) == 2, complaints


@case
def disabled(pair):
    server = pair.server("tcp:127.0.0.1:0", env={"SHMIPC_DISABLE": "1"})
    client = pair.client(server.address)
    expect_plain(client)
    assert not server.events("closed"), server.events("closed")


# ---- translation and namespaces: must stay plain ----

def redirect(space, ports):
    rules = "".join(f"tcp dport {a} redirect to :{b}\n" for a, b in ports.items())
    text = "table ip t {\nchain c {\ntype nat hook output priority -100;\n" + rules + "}\n}\n"
    result = subprocess.run([*space.under(), "nft", "-f", "-"], input=text, text=True, check=False,
                            capture_output=True)
    if result.returncode:
        raise Skip("nft: " + result.stderr.strip().split("\n", maxsplit=1)[0])


@case
def redirected_by_nat(pair):
    with Namespace("nat") as space:
        server = pair.server("tcp:127.0.0.1:0", under=space.under())
        port = int(server.address.rsplit(":", 1)[1])
        redirect(space, {7777: port})
        client = pair.client("tcp:127.0.0.1:7777", "rounds=200", under=space.under())
        expect_plain(client)
        expect_plain(server)


@case
def swapped_by_nat(pair):
    """Two listeners, each reached by the other's port: the addresses of a connection are another's."""
    with Namespace("swap") as space:
        one = pair.start("one", "server", "tcp:127.0.0.1:7001", under=space.under())
        two = pair.start("two", "server", "tcp:127.0.0.1:7002", under=space.under())
        one.ready()
        two.ready()
        redirect(space, {7001: 7002, 7002: 7001})
        first = pair.start("first", "client", "tcp:127.0.0.1:7001", "rounds=200", "from=40000", under=space.under())
        second = pair.start("second", "client", "tcp:127.0.0.1:7002", "rounds=200", "from=40000",
                            under=space.under())
        for end in (first, second):
            end.done()
            end.end()
            expect_plain(end)
        time.sleep(0.1)
        for end in (one, two):
            expect_plain(end)


@case
def two_namespaces_share_a_unix_path(pair):
    with Namespace("a") as space:
        server = pair.server(f"unix:{harness.DIR}/shared", under=space.under())
        client = pair.client(server.address, "rounds=300")
        expect_plain(client)
        expect_plain(server)
