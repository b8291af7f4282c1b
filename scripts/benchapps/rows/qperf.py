# SPDX-License-Identifier: Apache-2.0
# packages: qperf
"""qperf tcp_lat: one byte there and back; it reports half a round trip."""

import re

from benchapps.loads import Figure
from benchapps.row import Row
from benchapps.servers import Failed, Server

TIMES_US = {"ns": 1e-3, "us": 1, "ms": 1e3, "sec": 1e6}


def serve(place):
    place.tcp("data")
    return [Server(place, ["qperf", "-lp", place.port("control")], place.tcp("control"))]


def load(place, seconds):
    return ["qperf", "-lp", place.port("control"), "-ip", place.port("data"),
            "-t", str(max(1, round(seconds))), "-vvs", "-uu", "127.0.0.1", "tcp_lat"]


def read(text, unused):
    latency = re.search(r"latency += +([0-9.]+) (ns|us|ms|sec)", text)
    units = re.search(r"loc_send_msgs += +([0-9]+)", text)
    if not latency or not units:
        raise Failed("qperf: " + " ".join(text.split())[-300:])
    round_trip_us = 2 * float(latency.group(1)) * TIMES_US[latency.group(2)]
    return Figure(units=int(units.group(1)), rate=1e6 / round_trip_us, latency_us=round_trip_us)


def rows():
    yield Row(name="qperf.tcp_lat", title="qperf tcp_lat", unit="round trip", bar=30, aim=100,
              serve=serve, load=load, read=read, kind="latency", programs=("qperf",), awake=True,
              least_seconds=1)
