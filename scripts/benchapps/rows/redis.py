# SPDX-License-Identifier: Apache-2.0
# packages: redis-server redis-tools:redis-benchmark
"""redis-server and redis-benchmark."""

import csv
import socket

from benchapps.loads import Figure
from benchapps.row import Row
from benchapps.servers import Failed, Server

KEY = b"key:__rand_int__"  # the one that redis-benchmark asks for


def store(path, value_bytes):
    """Without it every GET is answered with nil."""
    value = b"x" * value_bytes
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" %
                       (len(KEY), KEY, len(value), value))
        if client.recv(64) != b"+OK\r\n":
            raise Failed("redis-server does not store the value")


def serve(value_bytes):
    def start(place):
        tcp, path = place.tcp("tcp"), place.path("unix")
        server = Server(place, ["redis-server", "--port", place.port("tcp"), "--bind", "127.0.0.1",
                                "--unixsocket", path, "--save", "", "--appendonly", "no",
                                "--dir", place.directory], tcp)
        store(path, value_bytes)
        return [server]
    return start


def load(transport, command, clients, extra):
    def argv(place, seconds):
        where = ["-p", place.port("tcp")] if transport == "tcp" else ["-s", place.path("unix")]
        return ["redis-benchmark", *where, "-t", command, "-c", str(clients), "--csv",
                "-n", str(place.units_for(seconds, 5000)), *extra]
    return argv


def read(text, argv):
    for line in csv.reader(text.splitlines()):
        if len(line) == 8 and line[0] in ("GET", "SET"):
            return Figure(units=int(argv[argv.index("-n") + 1]), rate=float(line[1]),
                          latency_us=float(line[4]) * 1e3, p99_us=float(line[6]) * 1e3)
    raise Failed("redis-benchmark: no figure in: " + text[-300:])


def row(name, title, transport, command, clients, bar, aim, value_bytes=3, extra=(), **more):
    return Row(name="redis.%s.%s" % (name, transport),
               title="redis-benchmark %s, %s" % (title, transport), unit="request", bar=bar, aim=aim,
               serve=serve(value_bytes), load=load(transport, command, clients, extra), read=read,
               programs=("redis-server", "redis-benchmark"), **more)


def rows():
    for transport in ("unix", "tcp"):
        yield row("get.c50", "GET -c 50", transport, "get", 50, 1.8, 4)
        yield row("set.c50", "SET -c 50", transport, "set", 50, 1.8, 4)
    for transport in ("unix", "tcp"):
        yield row("get.c1", "GET -c 1", transport, "get", 1, 10, 30, awake=True)
    for transport in ("unix", "tcp"):
        yield row("get.p16", "GET -P 16, 10 KB", transport, "get", 50, 1.3, 2, 10240,
                  extra=("-P", "16", "-d", "10240"))
