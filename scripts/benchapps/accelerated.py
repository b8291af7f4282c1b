# SPDX-License-Identifier: Apache-2.0
"""What shmipc-stat says of a row's connections while they live."""

import collections
import json
import subprocess

ENOUGH = 0.9  # of the ends that carry bytes


class Accelerated:
    def __init__(self, ends):
        used = [end for end in ends
                if end["ring_tx"] + end["ring_rx"] + end["kernel_tx"] + end["kernel_rx"]]
        self.ends = len(used)
        self.by_ring = sum(end["state"] == "accelerated" and end["ring_tx"] + end["ring_rx"] > 0
                           for end in used)
        self.roles = {end["role"] for end in used if end["state"] == "accelerated"}
        self.ring_bytes = sum(end["ring_tx"] for end in used)
        self.kernel_bytes = sum(end["kernel_tx"] for end in used)
        self.reasons = collections.Counter(end["reason"] for end in used
                                           if end["state"] != "accelerated")
        self.counters = {name: sum(end[name] for end in used) for name in
                         ("sleeps", "tokens", "spins_won", "spins_lost", "cuts", "overflow")}

    def enough(self):
        return self.ends > 0 and self.by_ring >= ENOUGH * self.ends and len(self.roles) == 2

    def text(self):
        if self.ends == 0:
            return "none seen"
        text = "%d of %d ends" % (self.by_ring, self.ends)
        if self.reasons:
            text += ", else " + " ".join(sorted(self.reasons))
        return text

    def as_dict(self):
        return {"ends": self.ends, "by_ring": self.by_ring, "enough": self.enough(),
                "ring_bytes": self.ring_bytes, "kernel_bytes": self.kernel_bytes,
                "reasons": dict(self.reasons), **self.counters}


def look(place):
    """Asked in the rounds of both sides, so that both pay for the look."""
    answer = subprocess.run([place.tools.stat, "--json"], stdout=subprocess.PIPE, check=True)
    wanted = set(place.addresses.values())
    return Accelerated([end for end in json.loads(answer.stdout) if end["endpoint"] in wanted])
