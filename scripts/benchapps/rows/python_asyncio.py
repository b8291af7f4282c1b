# SPDX-License-Identifier: Apache-2.0
# packages: python3:/usr/bin/python3
"""An asyncio echo server under round trips of 64 bytes."""

import os

from benchapps import loads, ours
from benchapps.row import Row
from benchapps.servers import Server


def serve(place):
    script = os.path.join(place.tools.programs, "echo.py")
    return [Server(place, ["/usr/bin/python3", script, place.port("tcp")], place.tcp("tcp"))]


def rows():
    for connections in (1, 50):
        yield Row(name="asyncio.c%d" % connections, title="python asyncio echo, %d connections" % connections,
                  unit="round trip", bar=1.1, aim=None, serve=serve, load=ours.ping(connections),
                  run=loads.run_ours, programs=("/usr/bin/python3",))
