# SPDX-License-Identifier: Apache-2.0
"""Steps of poll, select and epoll."""

from place import at_a_place
from vocabulary import ENDED, EPOLL_WAITS, EVENTS, LEFT_BEHIND, LONG_MS, POLLPRI, POLLS, SHORT_MS

SHARED = "shared"  # marks among the registrations of a set
NESTED = "nested"  # in one that is told of edges


class WaitSteps:
    """Part of the generator."""

    def at_lone_mark(self, who, slot):
        """An urgent byte and nothing else is there.  TCP calls that readable while its window is
        smaller than a segment, and how large it is the sizes of buffers decide."""
        if self.family != "tcp" or not self.far_end(who, slot).urgent:
            return False
        revents, there, _ = self.view(who, slot)
        return revents & POLLPRI and not there

    @at_a_place
    def poll(self, who, slot):
        slots = self.random.sample(self.open_slots(who), 1) if self.chance(0.6) else \
            self.open_slots(who)[:4]
        if any(self.at_lone_mark(who, s) for s in slots):
            return False
        entries = ",".join(f"{s}:{self.pick(EVENTS)}" for s in slots)
        if self.chance(0.05):
            entries += ",x7:IN"  # nothing is there
        call = self.pick(POLLS)
        if "select" in call and "x7" in entries:
            call = "poll"
        self.do(f"{who} poll {entries} {self.pick((0,) * 10 + (SHORT_MS,))} {call}")
        return True

    @at_a_place
    def blocked_wait(self, who, slot):
        end = self.end(who, slot)
        revents, there, _ = self.view(who, slot)
        if there or revents & (ENDED | POLLPRI) or 0 in end.shut or \
                self.far_end(who, slot).urgent:
            return False
        wake = self.waker(who, slot, end.low_water, data_only=self.chance(0.7),
                          beside=self.open_slots(who))
        if not wake:
            return False
        if self.chance(0.5):
            events = self.pick(("IN", "IN|RDHUP", "IN|PRI", "RDNORM|IN"))
            entries = f"{slot}:{events}"
            others = [s for s in self.open_slots(who) if s[0] != slot[0]]
            if others and self.chance(0.5):
                entries += f",{self.pick(others)}:PRI"
            order = f"poll {entries} {{}} {self.pick(POLLS)}"
            before = f"{who} " + order.format(0)
        else:
            mine = self.sets[self.process(who)]
            sets = [s for s in self.open_slots(who, "e") if "IN" in mine[s].get(slot, "") and
                    not self.is_torn(who, s) and not self.tells_twice(who, s, slot)]
            if not sets:
                return self.prepare_set(who, slot)
            fd_set = self.pick(sets)
            if end.has_file and "ET" in mine[fd_set][slot]:
                return False  # two edges, and a sleeper may be told between them
            order = f"epoll_wait {fd_set} 8 {{}} {self.pick(EPOLL_WAITS)}"
            before = f"{who} " + order.format(0)
        for _ in range(4):
            if self.spend(who, order, self.do(before)).endswith("=0"):
                break
        else:
            return True
        if order.startswith("epoll") and slot not in mine[order.split()[1]]:
            return True  # it is spent
        sleeping = "" if self.chance(0.7) else "^ "
        self.do(f"{who} & {sleeping}" + order.format(LONG_MS))
        if self.threads and self.chance(0.2):
            self.beside(who, slot)
        wake()
        self.spend(who, order, self.do(f"{who} ="))
        return True

    def spend(self, who, order, outcome):
        """A one-shot registration that was reported is silent now."""
        if order.startswith("epoll_wait"):
            registered = self.sets[self.process(who)][order.split()[1]]
            for part in outcome.split()[1:]:
                slot = part.partition(":")[0]
                if "ONESHOT" in registered.get(slot, ""):
                    del registered[slot]
        return outcome

    def is_torn(self, who, fd_set):
        """Which of two processes that share it is told of an edge is chance."""
        known = self.sets[self.process(who)][fd_set]
        return "ET" in known.get(SHARED, "") or self.is_haunted(who, fd_set)

    def is_haunted(self, who, fd_set):
        """It tells of a socket that this process has closed, and another holds."""
        process = self.process(who)
        return LEFT_BEHIND + process in self.sets[process][fd_set]

    def shows_our_edge(self, fd_set):
        """A set inside it may have told of a killed peer's reset.  The receive that is told of it
        tells the socket, which is an edge to the outer set."""
        words = [line.split() for line in self.lines if " epoll_ctl " in line]
        holds_sets = any(word[2:4] == [fd_set, "add"] and word[4][0] == "e" for word in words)
        return holds_sets and not all(role.alive for role in self.pair.roles.values())

    def tells_twice(self, who, fd_set, slot):
        """Of one arrival, one registration after the other: the kernel wakes the sleeper by the
        first, and whether that finds the second as well is chance (4 of 10000 times it did not)."""
        known = self.sets[self.process(who)][fd_set]
        words = [line.split() for line in self.lines if " epoll_ctl " in line and " add " in line]
        # one that was closed since may still tell, by a duplicate
        added = {word[4] for word in words
                 if self.sets[self.process(word[0])].get(word[2]) is known}
        return len({s for s in added if s[0] == slot[0]}) > 1 or any(s[0] == "e" for s in added)

    def prepare_set(self, who, slot):
        sets = self.open_slots(who, "e")
        if not sets or len(sets) < 3 and self.chance(0.2):
            free = [f"e{i}" for i in range(3) if f"e{i}" not in sets]
            if not free:
                return False
            fd_set = free[0]
            self.do(f"{who} epoll_create {fd_set}")
            self.slots[self.process(who)].add(fd_set)
            self.sets[self.process(who)][fd_set] = {}
        else:
            fd_set = self.pick(sets)
        if self.chance(0.06):
            return self.duplicate_set(who, fd_set)
        if self.chance(0.1):
            return self.pipe_beside(who, fd_set, slot)
        return self.control(who, fd_set, slot)

    def duplicate_set(self, who, fd_set):
        mine = self.slots[self.process(who)]
        free = [name for name in ("e3", "e4") if name not in mine]
        if not free:
            return False
        self.do(f"{who} dup {self.pick(('dup', 'F_DUPFD', 'F_DUPFD_CLOEXEC'))} {fd_set} {free[0]}")
        mine.add(free[0])
        sets = self.sets[self.process(who)]
        sets[free[0]] = sets[fd_set]  # what is registered by one is by both
        return True

    def pipe_beside(self, who, fd_set, slot):
        """A pipe in the set, whose registration may carry the data of the connection's."""
        mine = self.slots[self.process(who)]
        known = self.sets[self.process(who)][fd_set]
        if SHARED in known or who.endswith("k"):
            return False
        if "y0" not in mine:
            self.do(f"{who} pipe y0 y1")
            mine |= {"y0", "y1"}
        data = self.pick((slot, slot, "y0"))
        if "y0" not in known:
            events = self.pick(("IN", "IN", "IN|ET"))
            self.do(f"{who} epoll_ctl {fd_set} add y0 {events} {data}")
            known["y0"] = events
        elif self.chance(0.3):
            self.do(f"{who} epoll_ctl {fd_set} mod y0 IN {data}")
        elif self.chance(0.2):
            self.do(f"{who} epoll_ctl {fd_set} del y0 0")
            del known["y0"]
        if self.chance(0.5):
            self.do(f"{who} send y1 write 1 {self.number()} 0 1")
            if self.chance(0.7):
                self.do(f"{who} epoll_wait {fd_set} 8 0 epoll_wait")
                self.do(f"{who} receive y0 read 1 0 1")
        return True

    def control(self, who, fd_set, slot):
        known = self.sets[self.process(who)][fd_set]
        if SHARED in known:
            return False  # one process does not see what the other registers
        if slot in known:
            what = self.pick(("mod", "mod", "del", "add"))
        else:
            what = self.pick(("add",) * 8 + ("mod", "del"))
        events = self.pick(("IN", "IN", "IN|RDHUP", "IN|OUT", "OUT", "RDHUP", "IN|PRI", "PRI|IN|RDHUP"))
        if NESTED in known:
            events = events.replace("OUT", "RDHUP")  # of output there are edges by chance
        if self.chance(0.4) and "OUT" not in events:
            events += "|ET"
        if self.chance(0.2):
            events += "|ONESHOT"
        if what == "add" and self.chance(0.03):
            events = "IN|EXCLUSIVE"
        outcome = self.do(f"{who} epoll_ctl {fd_set} {what} {slot} {events}")
        if outcome == "epoll_ctl=0":
            if what == "del":
                known.pop(slot, None)
            else:
                known[slot] = events
        return True

    @at_a_place
    def epoll_ctl(self, who, slot):
        sets = self.open_slots(who, "e")
        if len(sets) > 1 and self.chance(0.15):  # nested
            inner, outer = sorted(self.random.sample(sets, 2))
            known = self.sets[self.process(who)][inner]
            edges = self.pick(("", "", "|ET"))
            if any("OUT" in events for events in known.values()):
                edges = ""
            if self.do(f"{who} epoll_ctl {outer} add {inner} IN{edges}") == "epoll_ctl=0" and edges:
                known[NESTED] = "told"
            return True
        return self.prepare_set(who, slot)

    def epoll_wait(self):
        places = [(who, s) for who in self.idle() for s in self.open_slots(who, "e")]
        if not places:
            return self.epoll_ctl()
        who, fd_set = self.pick(places)
        if self.is_haunted(who, fd_set) or self.shows_our_edge(fd_set) or \
                any(self.at_lone_mark(who, s) for s in self.open_slots(who)):
            return False
        # a byte that ends a ring is an edge, of which the set is ready and then tells nothing
        edges = any("ET" in events for known in self.sets[self.process(who)].values()
                    for events in known.values())
        if self.chance(0.15) and not edges:
            self.do(f"{who} poll {fd_set}:IN {self.pick((0,) * 5 + (SHORT_MS,))} {self.pick(POLLS)}")
            return True
        timeout = self.pick((0,) * 10 + (SHORT_MS,))
        if self.is_torn(who, fd_set):
            return False
        order = f"epoll_wait {fd_set} 8 {timeout} {self.pick(EPOLL_WAITS)}"
        self.spend(who, order, self.do(f"{who} {order}"))
        return True
