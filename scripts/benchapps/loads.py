# SPDX-License-Identifier: Apache-2.0
"""Runs the load of one round, and takes the CPU seconds of both ends."""

import dataclasses
import json
import os
import subprocess
import tempfile
import threading
import time

from benchapps import accelerated, cpu
from benchapps.servers import Failed

LIMIT_SECONDS = 120


@dataclasses.dataclass
class Figure:
    """What one load did: units of work, how many a second, how long each took (0: not told)."""

    units: float
    rate: float
    latency_us: float = 0.0
    p99_us: float = 0.0
    cpu_seconds: float = 0.0  # of both ends
    accelerated: object = None
    hog_cores: float = 0.0  # what the hogs had meanwhile
    kib_each: float = 0.0  # memory of both ends for one connection, the programs' own included


class Limit:
    """Kills what hangs: a row that never ends is a failed one."""

    def __init__(self, processes):
        self.passed = False
        self.processes = processes
        self.timer = threading.Timer(LIMIT_SECONDS, self.kill)

    def kill(self):
        self.passed = True
        for process in self.processes:
            process.kill()

    def __enter__(self):
        self.timer.start()
        return self

    def __exit__(self, *unused):
        self.timer.cancel()


def used(usage):
    return usage.ru_utime + usage.ru_stime


def has_ended(process):
    """Leaves its status and its CPU seconds for wait4."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def look_while_it_runs(row, place, process, seconds):
    """In the middle of the load.  One that was seen too early is looked at again: sockperf takes two
    seconds before it sends.  None: it was faster than expected, other rounds will tell."""
    time.sleep(row.look_after * seconds)
    seen = accelerated.look(place)
    while place.side == "shim" and not seen.enough() and not has_ended(process):
        time.sleep(0.2)
        again = accelerated.look(place)
        seen = again if again.ends else seen
    return seen if seen.ends or not has_ended(process) else None


def run_program(row, place, servers, seconds):
    """A program that connects, works, reports and ends; looked at in its middle."""
    argv = row.load(place, seconds)
    roots = {server.process.pid for server in servers}
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        before = cpu.tree_seconds(roots)
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, cwd=place.directory,
                                   env=place.environment())
        with Limit([process]) as limit:
            seen = look_while_it_runs(row, place, process, seconds)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        spent = cpu.tree_seconds(roots) - before + used(usage)
        output.seek(0)
        text = output.read()
    if limit.passed or process.returncode != 0:
        raise Failed("%s: status %s: %s" % (argv[0], process.returncode,
                                            " ".join(text.split())[-300:]))
    figure = row.read(text, argv)
    figure.cpu_seconds, figure.accelerated = spent, seen
    return figure


def next_line(process):
    line = process.stdout.readline()
    if not line:
        raise Failed("the load client ended: status %s: %s" %
                     (process.wait(), process.stderr.read().strip()[-300:]))
    return line


class OurLoad:
    """Clients of tools/load: they say when they measure, and hold their connections until told."""

    def __init__(self, place, argvs):
        self.place = place
        self.processes = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                           stderr=subprocess.PIPE, text=True,
                                           env=place.environment()) for argv in argvs]
        self.limit = Limit(self.processes)

    def measuring(self):
        for process in self.processes:
            next_line(process)

    def reports(self):
        return [json.loads(next_line(process)) for process in self.processes]

    def __enter__(self):
        self.limit.__enter__()
        return self

    def __exit__(self, failure, *unused):
        for process in self.processes:
            if failure:
                process.kill()
            process.stdin.close()
        for process in self.processes:
            process.wait()
            process.stdout.close()
            process.stderr.close()
        self.limit.__exit__()


def combine(reports):
    longest = max(report["seconds"] for report in reports)
    units = sum(report["units"] for report in reports)
    return Figure(units=units, rate=units / longest,
                  latency_us=sum(report.get("p50_us", 0) for report in reports) / len(reports),
                  p99_us=max(report.get("p99_us", 0) for report in reports))


def run_ours(row, place, servers, seconds):
    roots = {server.process.pid for server in servers}
    with OurLoad(place, row.load(place, seconds)) as load:
        load.measuring()
        before = cpu.tree_seconds(roots)
        reports = load.reports()
        spent = cpu.tree_seconds(roots) - before
        seen = accelerated.look(place)
    figure = combine(reports)
    figure.cpu_seconds = spent + sum(report["cpu_seconds"] for report in reports)
    figure.accelerated = seen
    return figure
