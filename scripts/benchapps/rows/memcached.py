# SPDX-License-Identifier: Apache-2.0
# packages: memcached libmemcached-tools:memcslap
"""memcached: memcslap with a thread for each connection, and one thread over many connections."""

import os
import re
import socket

from benchapps import loads
from benchapps.loads import Figure
from benchapps.row import Row
from benchapps.servers import Failed, Server

THREADS = 50
CONNECTIONS = 200
VALUE = "x" * 100


def serve(place):
    user = ["-u", "root"] if os.getuid() == 0 else []
    return [Server(place, ["memcached", *user, "-l", "127.0.0.1", "-p", place.port("tcp"), "-U", "0",
                           "-c", "4096"], place.tcp("tcp"))]


def memcslap(place, seconds):
    each = place.units_for(seconds, 5000) // THREADS
    return ["memcslap", "--servers=127.0.0.1:" + place.port("tcp"), "--concurrency=%d" % THREADS,
            "--execute-number=%d" % each, "--test=get"]


def read(text, unused):
    match = re.search(r"Time to get +(\d+) keys by +\d+ threads: +([0-9.]+) seconds", text)
    if not match:
        raise Failed("memcslap: no figure in: " + text[-300:])
    units, seconds = int(match.group(1)), float(match.group(2))
    return Figure(units=units, rate=units / seconds)


def many(place, seconds):
    return [[place.tools.load, "ping", place.tcp("tcp"), "--connections", str(CONNECTIONS),
             "--warm", "64", "--seconds", str(seconds), "--hold", "--send", "get k\r\n",
             "--expect", "VALUE k 0 %d\r\n%s\r\nEND\r\n" % (len(VALUE), VALUE)]]


def serve_with_value(place):
    servers = serve(place)
    with socket.create_connection(("127.0.0.1", int(place.port("tcp")))) as client:
        client.sendall(b"set k 0 0 %d\r\n%s\r\n" % (len(VALUE), VALUE.encode()))
        if client.recv(64) != b"STORED\r\n":
            raise Failed("memcached does not store the value")
    return servers


def rows():
    yield Row(name="memcached.get.memcslap", title="memcached get, memcslap, %d threads" % THREADS,
              unit="get", bar=1.8, aim=4, serve=serve, load=memcslap, read=read,
              programs=("memcached", "memcslap"))
    yield Row(name="memcached.get.many", title="memcached get, %d connections, one client thread" % CONNECTIONS,
              unit="get", bar=1.8, aim=4, serve=serve_with_value, load=many, run=loads.run_ours,
              programs=("memcached",))
