# SPDX-License-Identifier: Apache-2.0
"""Makes a plan while it runs it under the kernel: only steps whose outcome the kernel determines.

What must not be observed, because it is chance: how much fitted before EAGAIN, what a receive finds
while more is on its way, what lies in a corked socket.  A blocking call is made only when it cannot
block, or together with the step that wakes it."""
import random

from steps_data import DataSteps
from steps_number import NumberSteps
from steps_option import OptionSteps
from steps_pump import PumpSteps
from steps_wait import WaitSteps
from vocabulary import ENDED, POLLERR, RECEIVES, SENDS

WEIGHTS = {
    "receive": 25, "send": 25, "blocked_receive": 8, "blocked_wait": 8, "poll": 8, "epoll_ctl": 8,
    "epoll_wait": 8, "option": 7, "ioctl": 6, "dup": 3, "close": 3, "shutdown": 1.5, "kill": 0.4,
    "pump": 1.5, "big": 0.05, "fork": 0.8, "exit": 0.8, "thread": 1, "urgent": 1, "held": 1.5,
    "program": 0.2, "stdio": 0.5, "pass": 1.5, "second": 0.5, "trips": 2, "interrupted": 1,
    "timed": 1.5, "inquire": 2, "duplex": 0.5,
}


class Blocked(Exception):
    """A step that must not block has blocked under the kernel."""


class End:
    """What one side has told the kernel about its end of a connection."""

    def __init__(self):
        self.nonblock = False
        self.timeout_ms = 0  # SO_RCVTIMEO
        self.low_water = 1
        self.peek_offset = False
        self.shut = set()  # of 0 and 1
        self.unread = 0  # an upper bound of what it has sent and the other has not read
        self.urgent = False  # has sent urgent data
        self.inline = False
        self.inq = False  # has asked for TCP_INQ
        self.has_file = False  # the other end sends it LAST, and bytes right behind it


class Generator(DataSteps, PumpSteps, WaitSteps, NumberSteps, OptionSteps):
    def __init__(self, seed, pair, family, threads, steps):
        self.random = random.Random(seed)
        self.pair = pair
        self.family = family
        self.address = pair.addresses[family]
        self.threads = threads
        self.steps = steps
        self.lines = []
        self.outcomes = []
        self.ends = {}  # (connection, side) -> End
        self.slots = {}  # process -> the slots that are open
        self.sets = {}  # process -> {set: {slot: events}}; what fork copies is shared
        self.actors = ["S", "C"]
        self.count = 0
        self.passes = False
        self.passed = set()  # (connection, side) that the other side may hold too
        r = self.random
        self.nagle = family == "tcp" and r.random() < 0.04
        # not all kinds of steps in every plan: what is left is then the more frequent
        self.weights = {kind: weight * r.choice((0, 0.3, 1, 1, 3)) for kind, weight in
                        WEIGHTS.items()}
        self.weights["receive"] = max(self.weights["receive"], 5)
        self.weights["send"] = max(self.weights["send"], 5)
        self.calls = r.sample(SENDS, r.randint(2, len(SENDS)))
        self.receive_calls = r.sample(RECEIVES, r.randint(2, len(RECEIVES)))

    def do(self, line):
        outcome = self.pair.step(line)
        self.lines.append(line)
        self.outcomes.append(outcome)
        if outcome in ("blocked", "gone"):
            raise Blocked(line)
        return outcome

    def chance(self, probability):
        return self.random.random() < probability

    def pick(self, sequence):
        return self.random.choice(list(sequence))

    def number(self):
        self.count += 1
        return self.count

    @staticmethod
    def process(who):
        return who.rstrip("t")

    @staticmethod
    def other(who):
        return "C" if who[0] == "S" else "S"

    def idle(self, side=None):
        return [who for who in self.actors if who not in self.pair.pending and
                (side is None or who[0] == side)]

    def open_slots(self, who, letters="ab"):
        return sorted(slot for slot in self.slots[self.process(who)] if slot[0] in letters)

    def place(self):
        """An idle actor and a slot of a connection that it holds, or None."""
        places = [(who, slot) for who in self.idle() for slot in self.open_slots(who)]
        return self.pick(places) if places else None

    def partner(self, who, letter):
        """An idle actor of the other side and a slot of the same connection, or None."""
        places = [(peer, slot) for peer in self.idle(self.other(who))
                  for slot in self.open_slots(peer, letter)]
        return self.pick(places) if places else None

    def end(self, who, slot):
        return self.ends[slot[0], who[0]]

    def far_end(self, who, slot):
        return self.ends[slot[0], self.other(who)]

    def view(self, who, slot):
        """Revents, bytes to read and TCP's state, as they are now."""
        self.pair.step(f"{who} probe")
        return self.pair.views[who]["ab".index(slot[0])] or (POLLERR, 0, 7)

    def connect(self, letter):
        r = self.random
        nagle = " nagle" if self.nagle else ""
        listener = "l1" if self.family == "unix" else "l0"
        modes = [r.choice(("blocking", "blocking", "blocking", "nonblocking")),
                 r.choice(("plain", "plain", "plain", "nonblocking"))]
        self.do(f"C connect {letter}0 {{{self.family}}} {modes[0]}{nagle}")
        self.do(f"S accept {letter}0 {listener} {modes[1]}{nagle}")
        for side, mode in zip("CS", modes):
            self.ends[letter, side] = End()
            self.ends[letter, side].nonblock = mode == "nonblocking"
            self.slots.setdefault(side, set()).add(letter + "0")
            self.sets.setdefault(side, {})

    def blocking_both(self, letter):
        return not any(self.ends[letter, side].nonblock or self.ends[letter, side].timeout_ms or
                       self.ends[letter, side].shut for side in "SC")

    def is_alone(self, who):
        return not any(other != who and other[0] == who[0] for other in self.actors)

    def is_last(self, who, slot):
        holders = [(p, s) for p, slots in self.slots.items() if p[0] == who[0]
                   for s in slots if s[0] == slot[0]]
        return len(holders) == 1 and (slot[0], who[0]) not in self.passed

    def second(self):
        if ("b", "C") in self.ends or not {"S", "C"} <= set(self.idle()):
            return False
        self.connect("b")
        return True

    def step(self):
        kinds = {
            "receive": self.receive, "send": self.send, "blocked_receive": self.blocked_receive,
            "blocked_wait": self.blocked_wait, "poll": self.poll, "epoll_ctl": self.epoll_ctl,
            "epoll_wait": self.epoll_wait, "option": self.option, "ioctl": self.ioctl,
            "dup": self.dup, "close": self.close_one, "shutdown": self.shutdown, "kill": self.kill,
            "pump": self.pump, "big": lambda: self.pump(big=True), "fork": self.fork,
            "exit": self.exit, "thread": self.thread, "urgent": self.urgent, "held": self.held,
            "program": self.program, "stdio": self.stdio, "pass": self.passing,
            "second": self.second, "trips": self.trips, "interrupted": self.interrupted,
            "timed": self.timed, "inquire": self.inquire, "duplex": self.duplex,
        }
        kind = self.random.choices(list(self.weights), list(self.weights.values()))[0]
        return kinds[kind]()

    def drain(self):
        """To the very end, in both directions."""
        for who in self.idle():
            for slot in self.open_slots(who)[:1]:
                self.do(f"{who} shutdown {slot} 1")
                self.end(who, slot).shut.add(1)
        for who in self.idle():
            for slot in self.open_slots(who)[:1]:
                if self.end(who, slot).peek_offset or self.view(who, slot)[0] & ENDED == 0:
                    continue
                self.do(f"{who} nonblock {slot} 0 fcntl")
                self.do(f"{who} pump_in {slot} 9999999 1 "
                        f"{self.pick(('blocking', 'poll', 'epoll'))}")

    def make(self):
        try:
            self.connect("a")
            self.trips(self.pick((1, 3, 12, 30, 40)))
            for _ in range(self.steps):
                self.step()
                if any(self.pair.unsent.values()):
                    return True  # when the rest comes is the kernel's memory's to say
            if self.chance(0.6):
                self.drain()
        except Blocked:
            return False
        return True
