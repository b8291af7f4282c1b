# SPDX-License-Identifier: Apache-2.0
"""Random sequences of socket calls, under the kernel and under the shim: the outcomes must agree."""
import argparse
import contextlib
import io
import json
import os
import random
import sys
import tempfile
import time

import oracle
import plan as plans
from generate import Generator

BATCH = 25  # plans that one pair of processes performs
CONFIRM = 3
WRONGS = ("byte", "lost", "error", "event", "wake")
SELF_TEST_SEQUENCES = 400
SELF_TEST_STEPS = 12
PAIRINGS = ["shim/shim"] * 6 + ["shim/plain", "plain/shim"]


class Batch:
    """Plans that the same processes perform one after the other."""

    def __init__(self, lab, seed, options):
        r = random.Random(seed)
        self.lab = lab
        self.seed = seed
        self.options = options
        self.family = options.family or r.choice(("tcp", "unix"))
        self.pairing = options.pairing or r.choice(PAIRINGS)
        self.threads = r.random() < 0.25
        self.lost = False  # a packet, while the last plan was performed
        self.environment = {"SHMIPC_UPGRADE_AFTER": r.choice("0011124"),
                            "SHMIPC_SPIN_US": r.choice(("0", "0", "50"))}
        self.pairs = None

    def open(self):
        if not self.pairs:
            self.pairs = [self.lab.pair(oracle.PLAIN, self.environment),
                          self.lab.pair(self.pairing, self.environment)]
        return self.pairs

    def close(self, orderly):
        for pair in self.pairs or []:
            if orderly:
                pair.leave()
            else:
                pair.end()
        self.pairs = None

    def plan(self, index):
        """Make one under the kernel, perform it under the shim.  The plan, what was expected, what
        was found; or None when it could not be made."""
        seed = self.seed * 1000 + index
        dropped = oracle.packets_dropped()
        plain, other = self.open()
        steps = random.Random(seed).choice((4, 10, 20, 30, 60))
        generator = Generator(seed, plain, self.family, self.threads, steps)
        made = generator.make()
        plan = plans.Plan(generator.lines, self.family, self.pairing, self.environment,
                          f"seed {seed}")
        if not made:
            return plan, generator.outcomes, None
        found = oracle.replay(other, plan.steps)
        self.lost = plain.late or other.late or oracle.packets_dropped() != dropped
        good = len(found) == len(plan.steps)
        if not (plain.clean() and good and other.clean()):
            self.close(good)
        return plan, generator.outcomes, found


class Tally:
    NAMES = ("sequences", "steps", "differences", "unstable", "lost", "unmade", "broken", "ends",
             "moved", "ring_bytes")

    def __init__(self):
        for name in self.NAMES:
            setattr(self, name, 0)
        self.start = time.monotonic()

    def sums(self):
        return {name: getattr(self, name) for name in self.NAMES}

    def add(self, sums):
        """None: the job ended without a word."""
        for name, value in (sums or {"broken": 1}).items():
            setattr(self, name, getattr(self, name) + value)

    def text(self):
        seconds = time.monotonic() - self.start
        return (f"{self.sequences} sequences, {self.steps} steps, {self.differences} differences, "
                f"{self.unstable} without one answer of the kernel, {self.lost} with a packet lost, "
                f"{self.unmade} not made, {self.moved} of {self.ends} ends used rings, "
                f"for {self.ring_bytes} bytes, {seconds:.0f} s")


def show(plan, expected, found, mark):
    for i, step in enumerate(plan.steps):
        wanted = expected[i] if i < len(expected) else "not reached"
        got = found[i] if i < len(found) else "not reached"
        if wanted == got:
            print(f"    {step:60} {wanted}")
        else:
            print(f"  {'>' if i == mark else ' '} {step:60} kernel: {wanted}\n"
                  f"    {'':60} shim:   {got}")


def place_of(options, plan):
    os.makedirs(options.out, exist_ok=True)
    return os.path.join(options.out, plan.comment.replace(" ", "-") + ".plan")


def investigate(lab, options, tally, plan, expected, found, lost):
    """A difference: is it real, and what is the least of it?"""
    path = place_of(options, plan)
    if not oracle.is_stable(lab, plan, CONFIRM):
        tally.unstable += 1
        plan.save(path + ".unstable")
        print(f"? {plan.comment}: the kernel itself has no one answer", flush=True)
        return
    again = any(oracle.differs(lab, plan, 5.0) for _ in range(CONFIRM))
    if lost and not again:
        tally.lost += 1
        plan.save(path + ".lost")
        print(f"? {plan.comment}: a packet was lost, and with new processes there is no difference",
              flush=True)
        return
    tally.differences += 1
    plan.save(path)
    mark = oracle.first_difference(expected, found)
    wanted, got = expected[mark], found[mark] if mark < len(found) else "not reached"
    print(f"not ok {plan.comment} ({plan.pairing}, {plan.family}, {plan.environment}): step {mark}: "
          f"{plan.steps[mark]}: kernel: {wanted}: shim: {got}", flush=True)
    if not again:
        print(f"  not seen again with new processes: {path}", flush=True)
        return
    if not options.shrink:
        return
    least = oracle.shrink(lab, plan)
    least.save(path)
    for _ in range(CONFIRM):
        expected = oracle.replay_fresh(lab, least, oracle.PLAIN)
        found = oracle.replay_fresh(lab, least, least.pairing)
        mark = oracle.first_difference(expected, found)
        if mark is not None:
            break
    show(least, expected, found, mark)
    print(f"  kept as {path}", flush=True)


def run_batch(lab, options, tally, seed):
    batch = Batch(lab, seed, options)
    for index in range(BATCH):
        plan, expected, found = batch.plan(index)
        if found is None:
            tally.unmade += 1
            plan.save(place_of(options, plan) + ".unmade")
            print(f"? {plan.comment} ({plan.family}): blocked under the kernel: {plan.steps[-1]}",
                  flush=True)
            batch.close(False)
            continue
        tally.sequences += 1
        tally.steps += len(plan.steps)
        if oracle.first_difference(expected, found) is not None:
            batch.close(False)
            investigate(lab, options, tally, plan, expected, found, batch.lost)
            if tally.differences >= options.most:
                return
    batch.close(True)


def run_random(lab, options, job=0):
    """This job's share of the batches."""
    tally = Tally()
    seed = options.seed + job
    while tally.sequences * options.jobs < options.sequences and tally.differences < options.most:
        if options.seconds and time.monotonic() - tally.start > options.seconds:
            break
        run_batch(lab, options, tally, seed)
        seed += options.jobs
        if options.verbose and seed // options.jobs % 20 == 0:
            print(f"  {tally.text()}", flush=True)
    tally.ends, tally.moved, tally.ring_bytes = lab.accelerated()
    return tally


def run_job(options, job, write_end):
    """In a process of its own; its sums go into the pipe."""
    lab = oracle.Lab(options.worker, options.preload)
    try:
        tally = run_random(lab, options, job)
        os.write(write_end, json.dumps(tally.sums()).encode())
    finally:
        lab.close()


def run_jobs(options):
    """Batches shared out among processes."""
    children, tally = [], Tally()
    for job in range(options.jobs):
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            run_job(options, job, write_end)
            os._exit(0)
        os.close(write_end)
        children.append((pid, read_end))
    for pid, read_end in children:
        with os.fdopen(read_end) as pipe:
            tally.add(json.loads(pipe.read() or "null"))
        os.waitpid(pid, 0)
    return tally


def run_case(lab, path, verbose):
    """A kept plan: True if the outcomes agree."""
    plan = plans.load(path)
    expected = oracle.replay_fresh(lab, plan, oracle.PLAIN)
    found = oracle.replay_fresh(lab, plan, plan.pairing)
    mark = oracle.first_difference(expected, found)
    print(f"{'ok' if mark is None else 'not ok'} {os.path.basename(path)}")
    if mark is not None or verbose:
        show(plan, expected, found, mark)
    return mark is None


def self_test(options):
    """The kernel differs from itself in nothing, and each kind of wrong is found and made small."""
    results = []
    options.jobs, options.shrink, options.most = 1, True, 1
    options.sequences, options.pairing = SELF_TEST_SEQUENCES, oracle.PLAIN
    with tempfile.TemporaryDirectory() as options.out:
        lab = oracle.Lab(options.worker, options.preload)
        tally = run_random(lab, options)
        lab.close()
        results.append(("the kernel against itself", tally.differences == tally.unmade == 0))
        options.pairing = "shim/shim"
        for kind in WRONGS:
            lab = oracle.Lab(options.worker, options.wrong, {"DIFFERENTIAL_WRONG": kind})
            heard = io.StringIO()
            with contextlib.redirect_stdout(heard):  # it is meant to find something
                tally = run_random(lab, options)
            lab.close()
            least = [len(plans.load(os.path.join(options.out, name)).steps)
                     for name in os.listdir(options.out) if name.endswith(".plan")]
            good = tally.differences == 1 and min(least, default=99) <= SELF_TEST_STEPS
            results.append((f"a wrong {kind}, in {least} steps", good))
            if not good:
                print(heard.getvalue())
            for name in os.listdir(options.out):
                os.unlink(os.path.join(options.out, name))
    for name, good in results:
        print(f"{'ok' if good else 'not ok'} {name}")
    return report(sum(good for _, good in results), sum(not good for _, good in results))


def report(passed, failed):
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 else 1


def parse():
    parser = argparse.ArgumentParser(prog="run")
    parser.add_argument("--sequences", type=int, default=10 ** 9)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 10 ** 7)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--family", choices=("tcp", "unix"))
    parser.add_argument("--pairing", choices=sorted(set(PAIRINGS)) + [oracle.PLAIN])
    parser.add_argument("--out", default="differential.out", help="where differences are kept")
    parser.add_argument("--most", type=int, default=5, help="differences, then stop")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--preload", required=True)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--wrong", help="the interposer for --self-test")
    parser.add_argument("plans", nargs="*", help="only these plans")
    return parser.parse_args()


def run_cases(options):
    lab = oracle.Lab(options.worker, options.preload)
    try:
        good = [run_case(lab, path, options.verbose) for path in options.plans]
    finally:
        lab.close()
    return report(sum(good), len(good) - sum(good))


def main():
    options = parse()
    if options.self_test:
        return self_test(options)
    if options.plans:
        return run_cases(options)
    print(f"seed {options.seed}, {options.jobs} jobs", flush=True)
    tally = run_jobs(options)
    print(tally.text())
    both = options.pairing in (None, "shim/shim")
    idle = both and tally.moved == 0 and tally.sequences > BATCH
    if idle:
        print("not ok nothing was accelerated: nothing was tested")
    return report(tally.sequences - tally.differences,
                  tally.differences + tally.unmade + tally.broken + idle)


if __name__ == "__main__":
    sys.exit(main())
