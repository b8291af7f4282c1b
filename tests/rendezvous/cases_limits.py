# SPDX-License-Identifier: Apache-2.0
"""Filters and limits: plain where there is no way, but never harmed."""
import harness
from harness import build, case, expect_accelerated, expect_plain


@case
def filter_kills_server(pair):
    server = pair.server("tcp:127.0.0.1:0", under=(build("seccomp"), "kill"))
    client = pair.client(server.address)
    expect_accelerated(client)
    expect_accelerated(server)


@case
def filter_refuses_server(pair):
    server = pair.server("tcp:127.0.0.1:0", under=(build("seccomp"), "errno"))
    expect_accelerated(pair.client(server.address))
    expect_accelerated(server)


@case
def filter_kills_client(pair):
    server = pair.server("tcp:127.0.0.1:0")
    expect_accelerated(pair.client(server.address, under=(build("seccomp"), "kill")))


@case
def filter_kills_both(pair):
    server = pair.server("tcp:127.0.0.1:0", under=(build("seccomp"), "kill"))
    expect_accelerated(pair.client(server.address, under=(build("seccomp"), "kill")))


@case
def filter_kills_unix_server(pair):
    server = pair.server(f"unix:{harness.DIR}/filtered", under=(build("seccomp"), "kill"))
    expect_accelerated(pair.client(server.address))
    expect_accelerated(server)


@case
def filter_kills_unix_client(pair):
    server = pair.server(f"unix:{harness.DIR}/filtered2")
    expect_accelerated(pair.client(server.address, under=(build("seccomp"), "errno")))


@case
def no_descriptor_left_at_the_client(pair):
    server = pair.server("tcp:127.0.0.1:0")
    client = pair.client(server.address, "full")
    expect_plain(client)
    expect_plain(server)


@case
def no_descriptor_left_at_the_server(pair):
    server = pair.server("tcp:127.0.0.1:0", "full", "spare=2", "delay=0.2")
    expect_plain(pair.client(server.address, "rounds=300"))


@case
def little_address_space(pair):
    server = pair.server("tcp:127.0.0.1:0")
    client = pair.client(server.address, "as=200000000", "rounds=300")
    expect_accelerated(client)  # it maps as many streams of the segment as it can afford
    expect_accelerated(server)


@case
def no_address_space_left(pair):
    server = pair.server("tcp:127.0.0.1:0")
    client = pair.client(server.address, "as_left=12500000", "rounds=300")
    expect_plain(client, "memory")  # enough for what the shim shows of itself, not for a stream


@case
def no_address_space_for_the_table(pair):
    server = pair.server("tcp:127.0.0.1:0")
    client = pair.client(server.address, "as_left=1500000", "rounds=300")
    expect_plain(client, "memory")  # in the log at least


@case
def little_address_space_at_the_server(pair):
    server = pair.server("tcp:127.0.0.1:0", "as=200000000")
    client = pair.client(server.address, "rounds=300")
    expect_accelerated(client)  # the server makes the segment, of a size that it can afford
    expect_accelerated(server)


@case
def file_size_limit(pair):
    server = pair.server("tcp:127.0.0.1:0", "fsize=100000")
    client = pair.client(server.address, "rounds=300")
    expect_plain(server, "memory")
    expect_plain(client)
