# SPDX-License-Identifier: Apache-2.0
# packages: nodejs:node wrk
"""wrk to a node HTTP server."""

import os

from benchapps import wrk
from benchapps.row import Row
from benchapps.servers import Server


def serve(place):
    script = os.path.join(place.tools.programs, "hello.js")
    return [Server(place, ["node", script, place.port("tcp")], place.tcp("tcp"))]


def load(connections):
    def argv(place, seconds):
        return wrk.argv("http://127.0.0.1:%s/" % place.port("tcp"), connections, seconds)
    return argv


def rows():
    for connections in (1, 50):
        yield Row(name="node.c%d" % connections, title="node http, wrk -c %d" % connections,
                  unit="request", bar=1.1, aim=None, serve=serve, load=load(connections),
                  read=wrk.read(60), programs=("node", "wrk"), least_seconds=1)
