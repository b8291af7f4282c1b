# SPDX-License-Identifier: Apache-2.0
"""connect, one request, its reply, close: connections that are not worth a ring must not lose."""

from benchapps import loads
from benchapps.row import Row
from benchapps.servers import Server


def address(place, transport):
    return place.tcp("short") if transport == "tcp" else place.unix("short")


def serve(transport):
    def start(place):
        where = address(place, transport)
        return [Server(place, [place.tools.load, "serve", where], where)]
    return start


def load(transport, processes):
    def argvs(place, seconds):
        return [[place.tools.load, "short", address(place, transport), "--processes", str(processes),
                 "--seconds", str(seconds)]]
    return argvs


def rows():
    for transport in ("tcp", "unix"):
        for processes in (1, 8):
            yield Row(name="short.%s.p%d" % (transport, processes),
                      title="connect+request+close, %s, %d clients" % (transport, processes),
                      unit="connection", bar=0.95, aim=1, serve=serve(transport),
                      load=load(transport, processes), run=loads.run_ours, accelerated=False)
