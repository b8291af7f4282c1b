# SPDX-License-Identifier: Apache-2.0
"""What the shim costs where it does nothing, or not much: what can be counted of it."""
import os
import subprocess

import harness
from harness import Namespace, Skip, build, case, expect_accelerated

WAITS = 200


def asks(after, *how):
    """Questions to the kernel, where the connection is worth a ring after so many round trips."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("SHMIPC")}
    env.update(LD_PRELOAD=harness.SHIM, SHMIPC_ENDPOINTS="tcp:*", SHMIPC_UPGRADE_AFTER=str(after))
    result = subprocess.run([build("asks"), str(WAITS), *how], env=env, capture_output=True, text=True,
                            timeout=harness.DEADLINE_S, check=False)
    if result.returncode == 77:
        raise Skip(result.stderr.strip())
    assert result.returncode == 0, f"status {result.returncode}: {result.stderr}"
    return int(result.stdout)


@case
def a_wait_for_a_young_connection_asks_once(_):
    count = asks(1000000)
    assert WAITS <= count <= WAITS + WAITS // 10, f"{count} questions for {WAITS} waits"


@case
def a_wait_for_an_accelerated_connection_asks_once(_):
    """But for the first ones, and those that try, which spin: before a spin the kernel is asked too."""
    count = asks(2)
    assert count <= WAITS + WAITS // 2, f"{count} questions for {WAITS} waits"


@case
def a_poll_for_a_young_connection_asks_once(_):
    """Of a process with several threads, where it is counted."""
    count = asks(1000000, "poll")
    assert WAITS <= count <= WAITS + WAITS // 10, f"{count} questions for {WAITS} waits"


@case
def nothing_of_a_fresh_stream_is_dropped(pair):
    """The stream leaves the kernel while much of it is under way there, for which room was granted."""
    with Namespace("stream") as space:
        server = pair.start("server", "source-server", "tcp:127.0.0.1:0", "sequence=12", under=space.under())
        client = pair.start("client", "sink-client", server.ready(), "sequence=12", under=space.under())
        client.done()
        dropped = server.done()["dropped"]
        client.end()
        # of twelve that ended on a busy machine, some had been sent before their ring was there
        expect_accelerated(client, 4)
        assert dropped == 0, f"{dropped} segments"


@case
def short_connections_are_left_to_the_kernel(pair):
    """Some that end soon after they became worth a ring teach both ends; a long one is accelerated still."""
    server = pair.server("tcp:127.0.0.1:0")
    client = pair.start("client", "client", server.address, "sequence=60", "rounds=12", "conns=0")
    client.done()
    client.end()
    count = client.accelerated()
    assert count <= 20, f"{count} of 60"
    assert len(client.events("closed")) == 60, client.events("closed")
    other = pair.start("other", "client", server.address, "conns=1", "rounds=600")
    other.done()
    other.end()
    expect_accelerated(other, 1)


@case
def a_number_that_is_named_is_not_learned_away(pair):
    env = {"SHMIPC_UPGRADE_AFTER": "2"}
    server = pair.server("tcp:127.0.0.1:0", env=env)
    client = pair.start("client", "client", server.address, "sequence=60", "rounds=12", "conns=0", env=env)
    client.done()
    client.end()
    expect_accelerated(client, 50)
