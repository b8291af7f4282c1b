# SPDX-License-Identifier: Apache-2.0
# packages: sockperf
"""sockperf ping-pong over TCP; what counts is the average round trip that it reports."""

import re

from benchapps.loads import Figure
from benchapps.row import Row
from benchapps.servers import Failed, Server


RATE_MOST = 4000000  # without it sockperf reckons with 600000 a second, and takes more for an error


def serve(place):
    return [Server(place, ["sockperf", "sr", "--tcp", "-i", "127.0.0.1", "-p", place.port("tcp")],
                   place.tcp("tcp"))]


def load(place, seconds):
    return ["sockperf", "pp", "--tcp", "-i", "127.0.0.1", "-p", place.port("tcp"), "--full-rtt",
            "--mps=%d" % RATE_MOST, "-t", str(max(1, round(seconds)))]


def observation(text, percent):
    match = re.search(r"percentile %s = +([0-9.]+)" % percent, text)
    return float(match.group(1)) if match else 0.0


def read(text, unused):
    average = re.search(r"Round trip is ([0-9.]+) usec", text)
    total = re.search(r"Total Run\] RunTime=([0-9.]+) sec;.*ReceivedMessages=(\d+)", text)
    bad = re.search(r"# dropped messages = (\d+); # duplicated messages = (\d+); "
                    r"# out-of-order messages = (\d+)", text)
    if not (average and total and bad) or any(int(count) for count in bad.groups()):
        raise Failed("sockperf: " + " ".join(text.split())[-300:])
    return Figure(units=int(total.group(2)), rate=1e6 / float(average.group(1)),
                  latency_us=float(average.group(1)), p99_us=observation(text, "99.000"))


def rows():
    yield Row(name="sockperf.pingpong", title="sockperf ping-pong, TCP", unit="round trip", bar=30,
              aim=100, serve=serve, load=load, read=read, kind="latency", programs=("sockperf",),
              awake=True, least_seconds=1)
