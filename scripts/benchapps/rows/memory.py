# SPDX-License-Identifier: Apache-2.0
"""What an accelerated connection costs in memory, both processes taken together."""

from benchapps import accelerated, cpu, loads, ours
from benchapps.row import Row

CONNECTIONS = 10000


def run(row, place, servers, seconds):
    """Shared pages count once: half in each process's Pss. The kernel's own buffers are not in it."""
    with loads.OurLoad(place, row.load(place, seconds)) as load:
        load.measuring()
        figure = loads.combine(load.reports())
        ends = [server.process.pid for server in servers] + [one.pid for one in load.processes]
        figure.kib_each = sum(map(cpu.pss_kib, ends)) / CONNECTIONS
        figure.accelerated = accelerated.look(place)
    return figure


def rows():
    yield Row(name="memory.10000", title="%d connections: KiB each, both ends" % CONNECTIONS,
              unit="connection", bar=16, aim=8, serve=ours.serve, load=ours.ping(CONNECTIONS, 1, warm=32),
              run=run, kind="memory", rounds=1)
