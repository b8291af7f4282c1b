# SPDX-License-Identifier: Apache-2.0
"""wrk as the load of an HTTP server: its arguments, and what it reports."""

import re

from benchapps.loads import Figure
from benchapps.servers import Failed

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
TIMES_US = {"us": 1, "ms": 1e3, "s": 1e6, "m": 60e6}


def argv(url, connections, seconds, headers=()):
    """wrk counts whole seconds."""
    return ["wrk", "-t", "1", "-c", str(connections), "-d", "%ds" % max(1, round(seconds)),
            "--latency"] + [part for header in headers for part in ("-H", header)] + [url]


def percentile_us(text, percent):
    match = re.search(r"^ +%s%% +([0-9.]+)(us|ms|s|m)$" % percent, text, re.M)
    return float(match.group(1)) * TIMES_US[match.group(2)] if match else 0.0


def read(body_bytes):
    """Besides the figures, as many bytes as the answers need must have come."""
    def figure(text, unused):
        total = re.search(r"(\d+) requests in ([0-9.]+)(ms|s|m), ([0-9.]+)([KMGT]?)B read", text)
        if not total or "Socket errors" in text or "Non-2xx" in text:
            raise Failed("wrk: " + " ".join(text.split())[-300:])
        units = int(total.group(1))
        got = float(total.group(4)) * UNITS[total.group(5)]
        if got < units * body_bytes * 0.99:
            raise Failed("wrk: %d answers, but only %d bytes" % (units, got))
        return Figure(units=units,
                      rate=float(re.search(r"Requests/sec: +([0-9.]+)", text).group(1)),
                      latency_us=percentile_us(text, 50), p99_us=percentile_us(text, 99))
    return figure
