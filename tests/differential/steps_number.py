# SPDX-License-Identifier: Apache-2.0
"""Steps of descriptors, processes and threads."""

from place import at_a_place
from vocabulary import DUPS, ENDED, LEFT_BEHIND, OVERHEAD, UNREAD_MAX


class NumberSteps:
    """Part of the generator."""

    @at_a_place
    def dup(self, who, slot):
        call = self.pick(DUPS)
        process = self.process(who)
        mine = self.slots[process]
        if call in ("dup2", "dup3"):
            targets = [s for s in self.open_slots(who) if s != slot and not self.busy(who, s)]
            if not targets:
                return False
            # another connection's last descriptor may be replaced too: then it is closed
            target = self.pick(targets)
            if target[0] != slot[0]:
                return False
            self.do(f"{who} dup {call} {slot} {target}")
            self.unregister(who, target)
            return True
        free = [f"{slot[0]}{i}" for i in range(1, 4) if f"{slot[0]}{i}" not in mine]
        if not free:
            return False
        if self.do(f"{who} dup {call} {slot} {free[0]}").startswith("dup=E"):
            return True
        mine.add(free[0])
        return True

    def busy(self, who, slot):
        """Another thread of the process is inside a call."""
        return any(self.process(p) == self.process(who) for p in self.pair.pending)

    def unregister(self, who, slot):
        for registered in self.sets[self.process(who)].values():
            registered.pop(slot, None)

    def let_arrive(self, who, slots):
        """TCP: an end that leaves bytes unread makes a reset, which throws away what its kernel has
        not sent yet, and that waits for an answer sometimes: any step of the other side's before
        it."""
        for slot in slots:
            if self.family == "tcp" and slot[0] != "e" and self.is_last(who, slot) and \
                    self.view(who, slot)[1]:
                partner = self.partner(who, slot[0])
                if partner:
                    self.do(f"{partner[0]} stat {partner[1]}")

    def close(self, who, slot):
        self.let_arrive(who, [slot])
        self.do(f"{who} {self.pick(('close', 'close', 'close', 'close_range'))} {slot}")
        self.slots[self.process(who)].discard(slot)
        self.unregister(who, slot)
        if slot[0] != "e" and not self.open_slots(who, slot[0]):
            self.leave_behind(who, slot[0])
        return True

    def leave_behind(self, who, letter):
        """The kernel's registrations live as long as another process holds the socket."""
        if not any(p[0] == who[0] and s[0] == letter for p, slots in self.slots.items()
                   for s in slots):
            return
        for fd_set, registered in self.sets[self.process(who)].items():
            if any(f" epoll_ctl {fd_set} add {letter}" in line for line in self.lines):
                registered[LEFT_BEHIND + self.process(who)] = letter

    def close_one(self):
        places = [(who, slot) for who in self.idle() for slot in self.open_slots(who, "abe")]
        if not places:
            return False
        who, slot = self.pick(places)
        if self.is_last(who, slot) and slot[0] != "e":
            if self.chance(0.6):
                return False
            if self.family == "tcp" and self.chance(0.2):
                self.do(f"{who} linger {slot} 1 {self.pick((0, 0, 2))}")
        return self.close(who, slot)

    @at_a_place
    def shutdown(self, who, slot):
        how = self.pick((0, 1, 1, 1, 2))
        if self.family == "unix" and any(
                line[0] == self.other(who) and "epoll_ctl" in line and f" {slot[0]}" in line and
                "ET" in line for line in self.lines):
            how = 1  # that the other side refuses bytes is an edge, of bytes that were told
        if how == 2 and self.view(who, slot)[0] & ENDED:
            how = 1  # whose doing a reset is would show no more
        self.do(f"{who} shutdown {slot} {how}")
        self.end(who, slot).shut |= {0: {0}, 1: {1}, 2: {0, 1}}[how]
        if self.family == "unix":  # the other side's sending ends with our receiving
            self.far_end(who, slot).shut |= {1} if how != 1 else set()
        return True

    def kill_actor(self, who):
        self.let_arrive(who, self.open_slots(who))
        self.do(f"{who} kill")
        self.actors = [actor for actor in self.actors if self.process(actor) != who]
        del self.slots[who]
        return True

    def kill(self):
        who = self.pick("SC")
        if who not in self.actors or who in self.pair.pending:
            return False
        if any(self.process(p) == who for p in self.pair.pending):
            return False
        if any(end.urgent for end in self.ends.values()) or self.leaves_both_shut(who) or \
                self.may_have_last(who):
            return False
        return self.kill_actor(who)

    def may_have_last(self, who):
        """The other side has handed its end on, and others may send by it behind LAST.  If this one
        dies with LAST unread, Unix tells the other of a reset, and nobody knows whether of LAST alone."""
        return any(side != who for _, side in self.passed)

    def leaves_both_shut(self, who):
        """Both directions shut, with bytes unread: of such a peer's death only a byte that is sent to
        it could tell, and one that lives would answer it by a reset, or an error (Unix)."""
        return any(
            self.end(who, slot).shut == {0, 1} and self.view(who, slot)[1]
            for slot in self.open_slots(who))

    def fork(self):
        who = self.pick("SC")
        if who not in self.idle() or who + "k" in self.actors or who + "t" in self.pair.pending:
            return False
        self.do(f"{who} fork fork")
        self.actors.append(who + "k")
        self.slots[who + "k"] = set(self.slots[who])
        self.sets[who + "k"] = dict(self.sets[who])
        for registered in self.sets[who].values():
            names = [name for name, other in self.sets[who].items() if other is registered]
            once = any(f"epoll_ctl {name} " in line and ("ET" in line or "ONESHOT" in line)
                       for line in self.lines for name in names)
            registered["shared"] = "ET" if once else "level"
        if self.chance(0.5):  # as servers do: one of the two closes it at once
            closer = self.pick((who, who, who + "k"))
            for slot in self.open_slots(closer):
                if self.chance(0.8):
                    self.close(closer, slot)
        return True

    def exit(self):
        children = [who for who in self.idle() if who.endswith("k")]
        if not children:
            return False
        who = self.pick(children)
        how = self.pick(("exit", "_exit", "kill"))
        self.let_arrive(who, self.open_slots(who))
        self.do(f"{who} exit {'exit' if self.leaves_both_shut(who) else how}")
        self.actors.remove(who)
        del self.slots[who]
        parent = who[0]
        if parent in self.idle():
            self.do(f"{parent} wait")
        return True

    def thread(self):
        who = self.pick("SC")
        if not self.threads or who not in self.idle():
            return False
        if who + "t" in self.actors:
            if who + "t" in self.pair.pending:
                return False
            self.do(f"{who}t leave")
            self.do(f"{who} join")
            self.actors.remove(who + "t")
        else:
            self.do(f"{who} thread")
            self.actors.append(who + "t")
        return True

    @at_a_place
    def program(self, who, slot):
        if who.endswith("t"):
            return False
        end = self.end(who, slot)
        how = f"{self.pick(('spawn', 'fork', 'vfork'))} {self.pick(('same', 'empty'))}"
        revents, there, _ = self.view(who, slot)
        if end.nonblock or end.timeout_ms or end.low_water > 1 or self.far_end(who, slot).urgent:
            return False
        if there:
            return False  # what lies in the ring waits for the peer's next call
        if self.family == "unix" and any(self.far_end(who, s).shut == {0, 1} and
                                         self.view(who, s)[1] for s in self.open_slots(who)):
            return False  # from then on the bytes lie in a stand-in
        if 1 not in end.shut and not revents & ENDED and end.unread < UNREAD_MAX // 2:
            end.unread += 3000 + OVERHEAD
            self.do(f"{who} program_put {slot} {how} {self.size()} {self.number()}")
        return True
