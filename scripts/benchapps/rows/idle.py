# SPDX-License-Identifier: Apache-2.0
"""One connection at work among idle ones, all accelerated and all in one epoll set at each end."""

from benchapps import loads, ours
from benchapps.row import Row

FLAT = 2  # times the round trip without idle ones
COUNTS = (1, 100, 1000, 10000)
# What must not grow is the shim's own time: the reference is the row with one connection.
REFERENCE = "idle.1"


def rows():
    for count in COUNTS:
        yield Row(name="idle.%d" % count, title="1 active of %d connections, epoll" % count,
                  unit="round trip", bar=FLAT, aim=1, serve=ours.serve, load=ours.ping(count, 1, warm=32),
                  run=loads.run_ours, kind="flat")
