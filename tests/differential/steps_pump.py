# SPDX-License-Identifier: Apache-2.0
"""Steps in which both roles are busy at once."""

from place import at_a_place
from vocabulary import ENDED, OVERHEAD


class PumpSteps:
    """Part of the generator."""

    def pumpable(self, who, slot):
        partner = self.partner(who, slot[0])
        if not partner:
            return None
        peer, far = partner
        end, far_end = self.end(who, slot), self.end(peer, far)
        if 1 in end.shut or 0 in far_end.shut or 0 in end.shut or 1 in far_end.shut:
            return None
        if far_end.low_water > 1 or far_end.timeout_ms or far_end.peek_offset or end.urgent or \
                far_end.urgent or end.timeout_ms:
            return None
        return partner

    def styles(self, end):
        return ["poll", "select", "epoll", "edge"] + ([] if end.nonblock else ["blocking"] * 3)

    @at_a_place
    def pump(self, who, slot, big=False):
        partner = self.pumpable(who, slot)
        if not partner or self.view(who, slot)[0] & ENDED:
            return False
        peer, far = partner
        there = self.view(peer, far)[1]
        count = self.random.randint(5 << 20, 9 << 20) if big else \
            self.pick((self.random.randint(1, 5000), self.random.randint(1, 300000)))
        styles = self.styles(self.end(peer, far))
        if not self.end(peer, far).nonblock:
            styles.append("waitall")
        seed = self.number()
        out = f"pump_out {slot} {count} {seed} {self.pick(self.styles(self.end(who, slot)))}"
        # what is left of a long message keeps all of its memory: a Unix socket may have no room
        all_of_it = self.chance(0.5) or self.family == "unix"
        into = f"pump_in {far} {count + (there if all_of_it else 0)} {seed} {self.pick(styles)}"
        if self.chance(0.5):
            self.do(f"{who} & ^ {out}")
            self.do(f"{peer} {into}")
            self.do(f"{who} =")
        else:
            self.do(f"{peer} & {into}")
            self.do(f"{who} {out}")
            self.do(f"{peer} =")
        self.end(who, slot).unread += there + OVERHEAD
        return True

    def duplex(self):
        """Both directions at once, two threads at each end."""
        if not self.threads or not all(w in self.idle() for w in ("S", "C", "St", "Ct")):
            return self.thread()
        slots = [(a, b) for a in self.open_slots("S") for b in self.open_slots("C")
                 if a[0] == b[0]]
        if not slots:
            return False
        near, far = self.pick(slots)
        if not self.pumpable("S", near) or self.end("S", near).low_water > 1 or \
                self.view("S", near)[0] & ENDED or \
                self.view("S", near)[1] or self.view("C", far)[1]:
            return False
        counts = [self.random.randint(1, 600000) for _ in range(2)]
        seeds = [self.number(), self.number()]
        styles = [self.pick(self.styles(self.end("S", near))),
                  self.pick(self.styles(self.end("C", far)))]
        self.do(f"S & ^ pump_out {near} {counts[0]} {seeds[0]} {styles[0]}")
        self.do(f"C & ^ pump_out {far} {counts[1]} {seeds[1]} {styles[1]}")
        self.do(f"St & ^ pump_in {near} {counts[1]} {seeds[1]} {styles[0]}")
        self.do(f"Ct pump_in {far} {counts[0]} {seeds[0]} {styles[1]}")
        for who in ("S", "C", "St"):
            self.do(f"{who} =")
        return True

    @at_a_place
    def trips(self, who, slot, rounds=None):
        partner = self.pumpable(who, slot)
        if not partner or not self.blocking_both(slot[0]) or self.end(who, slot).low_water > 1 or \
                self.view(who, slot)[1] or self.view(who, slot)[0] & ENDED or self.view(*partner)[1]:
            return False
        peer, far = partner
        text = f"{rounds or self.random.randint(1, 12)} {self.size()} {self.number()}"
        self.do(f"{who} & ^ trips {slot} {text} ping")
        self.do(f"{peer} trips {far} {text} pong")
        self.do(f"{who} =")
        self.end(who, slot).unread = self.end(peer, far).unread = 0
        return True
