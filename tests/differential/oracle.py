# SPDX-License-Identifier: Apache-2.0
"""The same plan under the kernel and under the shim; what differs, and the least plan that does."""
import os
import shutil
import tempfile

import plan as plans
from pair import BLOCKED, Pair
from vocabulary import LONG_MS

PLAIN = "plain/plain"
PATIENCE_S = 1.6 * LONG_MS / 1000  # a wait that nothing ends is over by itself before


class Lab:
    """Starts pairs of workers, with and without the shim."""

    def __init__(self, worker, preload, extra=()):
        self.worker, self.preload, self.extra = worker, preload, dict(extra)
        self.folder = tempfile.mkdtemp(prefix="differential.")
        self.count = 0
        self.base = {k: v for k, v in os.environ.items()
                     if k != "LD_PRELOAD" and not k.startswith("SHMIPC")}
        self.log = os.path.join(self.folder, "log")

    def pair(self, pairing, environment, patience_s=PATIENCE_S):
        self.count += 1
        shimmed = dict(self.base, LD_PRELOAD=self.preload, SHMIPC_ENDPOINTS="tcp:*,unix:*",
                       SHMIPC_LOG=f"info:{self.log}")
        shimmed.update(environment, **self.extra)
        ends = {"shim": shimmed, "plain": self.base}
        server, client = pairing.split("/")
        return Pair(self.worker, {"S": ends[server], "C": ends[client]},
                    os.path.join(self.folder, f"{self.count:06}.sock"), patience_s)

    def accelerated(self):
        """Of how many connections' ends, how many, and the bytes that went by rings."""
        ends = moved = total = 0
        try:
            with open(self.log, encoding="ascii", errors="replace") as file:
                for line in file:
                    if "event=closed" not in line:
                        continue
                    fields = dict(p.split("=", 1) for p in line.split() if "=" in p)
                    ends += 1
                    ring = int(fields.get("ring_tx", 0)) + int(fields.get("ring_rx", 0))
                    moved += ring > 0
                    total += ring
        except OSError:
            pass
        return ends, moved, total

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def replay(pair, steps):
    """The outcomes, as far as the plan gets."""
    outcomes = []
    for step in steps:
        outcomes.append(pair.step(step))
        if outcomes[-1] in (BLOCKED, "gone"):
            break
    return outcomes


def replay_fresh(lab, plan, pairing, patience_s=PATIENCE_S):
    pair = lab.pair(pairing, plan.environment, patience_s)
    try:
        outcomes = replay(pair, plan.steps)
        if len(outcomes) == len(plan.steps) and outcomes[-1] != BLOCKED:
            pair.clean()
        return outcomes
    finally:
        pair.end()


def first_difference(expected, found):
    """The index of the first step whose outcome differs, or None."""
    for i, outcome in enumerate(expected):
        if i >= len(found) or found[i] != outcome:
            return i
    return None


def differs(lab, plan, patience_s):
    expected = replay_fresh(lab, plan, PLAIN, patience_s)
    if len(expected) < len(plan.steps) or expected[-1] in (BLOCKED, "gone"):
        return False
    found = replay_fresh(lab, plan, plan.pairing, patience_s)
    return first_difference(expected, found) is not None


def packets_dropped():
    """By the queues between the machine's ends of loopback connections, since it was started."""
    with open("/proc/net/softnet_stat", encoding="ascii") as file:
        return sum(int(line.split()[1], 16) for line in file)


def is_stable(lab, plan, times):
    """Has the kernel one answer only?"""
    first = replay_fresh(lab, plan, PLAIN)
    return all(replay_fresh(lab, plan, PLAIN) == first for _ in range(times))


def shrink(lab, plan, patience_s=0.4, tries=2):
    """Leave out steps, many at a time, then one by one, while the difference remains."""
    def still(steps):
        return any(differs(lab, plan.with_steps(steps), patience_s) for _ in range(tries))

    numbers, count = plans.units(plan.steps)
    kept = set(range(count))
    piece = max(1, count // 2)
    while True:
        again = False
        order = sorted(kept)
        for at in range(len(order), 0, -piece):
            candidate = kept - set(order[max(0, at - piece):at])
            steps = [s for s, n in zip(plan.steps, numbers) if n in candidate]
            if candidate and still(steps):
                kept, again = candidate, True
        if piece == 1 and not again:
            break
        piece = max(1, piece // 2)
    return plan.with_steps([s for s, n in zip(plan.steps, numbers) if n in kept])
