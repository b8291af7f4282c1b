# SPDX-License-Identifier: Apache-2.0
"""Kernel and shim in turns, and the medians of what came out."""

import contextlib
import os
import statistics
import time

from benchapps import background
from benchapps.accelerated import Accelerated
from benchapps.servers import Failed
from benchapps.sides import SIDES, Place

WARM_SHARE = 0.4  # of a round's seconds, for the first load of each side, which does not count


def one_load(row, place, servers, seconds, others):
    before, start = others.seconds(), time.monotonic()
    figure = row.run(row, place, servers, max(seconds, row.least_seconds))
    figure.hog_cores = (others.seconds() - before) / (time.monotonic() - start)
    place.rate = figure.rate
    for server in servers:
        if server.died():
            raise Failed("%s ended: %s" % (server.process.args[0], server.last_words()))
    if figure.units <= 0:
        raise Failed("no unit of work was done")
    if place.side == "kernel" and figure.accelerated and figure.accelerated.ends:
        raise Failed("the kernel's side is not plain")
    return figure


def summary(row, figures):
    """One side's medians."""
    def median(value):
        return statistics.median(value(figure) for figure in figures)

    return {
        "value": median(row.value),
        "values": [row.value(figure) for figure in figures],
        "rate": median(lambda figure: figure.rate),
        "p50_us": median(lambda figure: figure.latency_us),
        "p99_us": median(lambda figure: figure.p99_us),
        "cpu_us_per_unit": median(lambda figure: figure.cpu_seconds / figure.units * 1e6),
        "hog_cores": median(lambda figure: figure.hog_cores),
    }


def compare(row, kernel, shim):
    result = {"ratio": row.ratio(kernel["value"], shim["value"])}
    if row.kind != "memory":
        result["cpu_ratio"] = shim["cpu_us_per_unit"] / kernel["cpu_us_per_unit"]
    if row.hogs:
        result["hog_ratio"] = shim["hog_cores"] / kernel["hog_cores"]
    return result


def worst_seen(figures):
    """Every round must have been accelerated: the one with the smallest share counts."""
    seen = [figure.accelerated for figure in figures if figure.accelerated]
    return min(seen or [Accelerated([])], key=lambda one: (one.enough(), one.share()))


def measure(row, tools, directory, rounds, seconds, policy=None):
    """Both sides' servers stay up for the row; the loads take turns, each round in the other order."""
    policy = background.HOGS if row.hogs else policy
    figures = {side: [] for side in SIDES}
    with contextlib.ExitStack() as stack:
        others = stack.enter_context(background.Background(policy, row.hogs or 1))
        sides = []
        for side in SIDES:
            place = Place(side, os.path.join(directory, side), tools)
            servers = row.serve(place)
            for server in servers:
                stack.callback(server.stop)
            sides.append((place, servers))
        for place, servers in sides:
            one_load(row, place, servers, seconds * WARM_SHARE, others)
        for number in range(row.rounds or rounds):
            for place, servers in sides if number % 2 == 0 else reversed(sides):
                figures[place.side].append(one_load(row, place, servers, seconds, others))
    kernel, shim = summary(row, figures["kernel"]), summary(row, figures["shim"])
    seen = worst_seen(figures["shim"])
    return {"kernel": kernel, "shim": shim, **compare(row, kernel, shim),
            "accelerated": seen.as_dict(), "accelerated_text": seen.text()}
