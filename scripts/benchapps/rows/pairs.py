# SPDX-License-Identifier: Apache-2.0
"""Busy pairs on too few cores, and a pair or a server beside hogs."""

import dataclasses

from benchapps import loads
from benchapps.row import Row
from benchapps.rows import redis
from benchapps.servers import Server


ONE_CORE = ("taskset", "-c", "0")


def serve(pairs, where):
    def start(place):
        names = ["pair%d" % number for number in range(pairs)]
        for name in names:
            place.tcp(name)
        return [Server(place, [*where, place.tools.load, "serve", place.tcp(name), "--block"],
                       place.tcp(name))
                for name in names]
    return start


def load(pairs, bytes_each, where):
    def argvs(place, seconds):
        return [[*where, place.tools.load, "ping", place.tcp("pair%d" % number), "--block", "--hold", "--warm",
                 "64", "--bytes", str(bytes_each), "--seconds", str(seconds)]
                for number in range(pairs)]
    return argvs


def row(name, title, pairs, bytes_each, where=(), **more):
    return Row(name=name, title=title, unit="round trip", serve=serve(pairs, where),
               load=load(pairs, bytes_each, where), run=loads.run_ours, **more)


def rows():
    for pairs in (2, 4, 8):
        for label, bytes_each in (("64b", 64), ("64k", 65536)):
            yield row("busy.%d.%s" % (pairs, label), "%d busy pairs, %s" % (pairs, label.upper()),
                      pairs, bytes_each, bar=1, aim=1.2)
    yield row("hog.pair", "one pair, 64 B, beside a hog on each core", 1, 64, bar=1, aim=None, hogs=1)
    yield row("hogs.pair", "one pair, 64 B, beside three hogs on each core", 1, 64, bar=1, aim=None, hogs=3)
    yield row("hog.core", "one pair, 64 B, on one core, beside a hog there", 1, 64, ONE_CORE, bar=1,
              aim=None, hogs=1, programs=ONE_CORE[:1])
    beside = redis.row("get.c50", "GET -c 50", "tcp", "get", 50, 1, None)
    yield dataclasses.replace(beside, name="hog.redis", hogs=1,
                              title="redis-benchmark GET -c 50, tcp, beside a hog on each core")
