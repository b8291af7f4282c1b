# SPDX-License-Identifier: Apache-2.0
"""What shmipc-stat says of a row's connections while they live."""

import collections
import json
import subprocess

BY_ACCELERATED = 0.9  # of the bytes: what the accelerated ends carry in all
BY_RING = 0.5  # of the bytes: what went through memory, although a load may be caught at its start


class Accelerated:
    def __init__(self, ends):
        used = [end for end in ends if carried(end)]
        ours = [end for end in used if end["state"] == "accelerated" and end["ring_tx"] + end["ring_rx"]]
        self.ends, self.by_ring = len(used), len(ours)
        self.roles = {end["role"] for end in ours}
        self.bytes = sum(map(carried, used))
        self.accelerated_bytes = sum(map(carried, ours))
        self.ring_bytes = sum(end["ring_tx"] + end["ring_rx"] for end in used)
        self.reasons = collections.Counter(end["reason"] for end in used
                                           if end["state"] != "accelerated")
        self.counters = {name: sum(end[name] for end in used) for name in
                         ("sleeps", "tokens", "spins_won", "spins_lost", "cuts", "overflow")}

    def share(self):
        return self.ring_bytes / self.bytes if self.bytes else 0.0

    def enough(self):
        """Connections that a program uses but for its own control do not count by their number."""
        return (len(self.roles) == 2 and self.accelerated_bytes >= BY_ACCELERATED * self.bytes
                and self.share() >= BY_RING)

    def text(self):
        if self.ends == 0:
            return "none seen"
        text = "%d of %d ends, %.0f %% of bytes" % (self.by_ring, self.ends, 100 * self.share())
        if self.reasons:
            text += ", else " + " ".join(sorted(self.reasons))
        return text

    def as_dict(self):
        return {"ends": self.ends, "by_ring": self.by_ring, "enough": self.enough(),
                "share": round(self.share(), 3), "reasons": dict(self.reasons), **self.counters}


def carried(end):
    return end["ring_tx"] + end["ring_rx"] + end["kernel_tx"] + end["kernel_rx"]


def look(place):
    """Asked in the rounds of both sides, so that both pay for the look."""
    answer = subprocess.run([place.tools.stat, "--json"], stdout=subprocess.PIPE, check=True)
    wanted = set(place.addresses.values())
    return Accelerated([end for end in json.loads(answer.stdout) if end["endpoint"] in wanted])
