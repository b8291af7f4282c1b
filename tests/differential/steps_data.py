# SPDX-License-Identifier: Apache-2.0
"""Steps that move bytes, and those that wait for them."""

from place import at_a_place
from vocabulary import (ENDED, LONG_MS, OVERHEAD, POLLERR, POLLHUP, POLLPRI, POLLS,
                        RECEIVES_FLAGS, SENDFILES, SENDS_FLAGS, SENDS_ONE, UNREAD_MAX)


class DataSteps:
    """Part of the generator."""

    def size(self):
        r = self.random
        return r.choice((1, 1, 2, 3, r.randint(1, 16), r.randint(1, 300), r.randint(1, 3000)))

    def send(self, place=None, peer_must_live=False, one=False, least=1):
        place = place or self.place()
        if not place:
            return False
        who, slot = place
        end = self.end(who, slot)
        count = max(self.size(), least)
        if not one and self.chance(0.05):
            count = self.random.randint(5000, 32000)
        parts = self.random.randint(1, 8) if self.chance(0.4) else 1
        if end.unread + count + parts * OVERHEAD > UNREAD_MAX:
            if self.far_unread(who, slot) > 0:
                return False
            end.unread = 0
        if peer_must_live and 1 in end.shut:
            return False
        call = self.pick(SENDS_ONE if one else self.calls)
        if call == "sendfile" and self.chance(0.1) and not self.view(who, slot)[0] & ENDED:
            call = self.pick(SENDFILES)
        flags = "0"
        if call in SENDS_FLAGS:
            flags = self.pick(("0", "0", "NOSIGNAL", "DONTWAIT", "DONTWAIT|NOSIGNAL", "EOR"))
        elif call == "splice" and self.chance(0.3):
            flags = "DONTWAIT"
        if self.chance(0.02) and not one:
            count = 0 if call != "dprintf" else 1
        if call == "dprintf":
            count, parts = min(count, 2000), 1
        if call == "splice":
            count = min(count, 4000)
        end.unread += count + parts * OVERHEAD
        self.do(f"{who} send {slot} {call} {count} {self.number()} {flags} {parts}")
        return True

    def far_unread(self, who, slot):
        """0 only when the other side has surely read everything."""
        for peer in self.idle(self.other(who)):
            if self.open_slots(peer, slot[0]):
                return self.view(peer, slot)[1]
        return 1

    @at_a_place
    def receive(self, who, slot):
        revents, there, _ = self.view(who, slot)
        end = self.end(who, slot)
        call = self.pick(self.receive_calls)
        count = self.pick((1, 2, self.size(), self.size(), max(1, there - 1), max(1, there),
                           there + 1, there + 100, 65536))
        flags = set()
        if call in RECEIVES_FLAGS:
            for flag, probability in (("PEEK", 0.2), ("DONTWAIT", 0.2), ("WAITALL", 0.15),
                                      ("TRUNC", 0.05)):
                if self.chance(probability):
                    flags.add(flag)
        if "PEEK" in flags:
            flags.discard("TRUNC")
        sure = bool(revents & ENDED) or there >= max(1, end.low_water)
        if revents & POLLPRI or self.far_end(who, slot).urgent:
            sure = False
        if "PEEK" in flags and end.peek_offset:
            sure = False
        if "WAITALL" in flags and (there < count or "PEEK" in flags and revents & POLLPRI):
            sure = bool(revents & ENDED) and not self.far_end(who, slot).urgent
        if call == "recvmmsg":
            sure = False
            call = call if not self.far_end(who, slot).urgent else "recv"
        if not sure and not end.nonblock:
            if call in RECEIVES_FLAGS or call in ("preadv2", "recvmmsg"):
                flags.add("DONTWAIT")
            else:
                call = "recv"
                flags.add("DONTWAIT")
        if call == "splice" and (self.far_end(who, slot).urgent or end.peek_offset):
            call = "recv"
        if call == "splice":  # as many pieces as the pipe takes
            count = min(count, 16)
        if end.inq and call in ("recvmsg", "recvmsg_named") and revents & (POLLERR | POLLHUP):
            call = "recv"  # whether an end came before a reset
        if call == "preadv2" and self.family == "unix":
            flags.discard("DONTWAIT")
            if not sure and not end.nonblock:
                return False
        if self.chance(0.01) and not self.far_end(who, slot).urgent:
            count = 0
            call = call if call not in ("recvfrom", "recvmsg_named", "recvmmsg") else "recv"
            if call in RECEIVES_FLAGS:
                flags.add("DONTWAIT")
        text = "|".join(sorted(flags)) or "0"
        parts = self.random.randint(1, 8) if self.chance(0.3) else 1
        self.do(f"{who} receive {slot} {call} {count} {text} {parts}")
        return True

    def waker(self, who, slot, least=1, data_only=False, beside=()):
        """A step of the other side after which a wait for bytes ends, or None.  It must be one after
        which nothing more comes: not a death of which the wait hears by two connections, those
        of `beside` too.  Nothing is unread now."""
        partner = self.partner(who, slot[0])
        if not partner:
            return None
        peer, far = partner
        end = self.end(peer, far)
        if 1 in end.shut:
            return None
        end.unread = 0
        choice = self.random.random()
        if not data_only and choice < 0.12:
            end.shut.add(1)
            return lambda: self.do(f"{peer} shutdown {far} 1")
        if not data_only and choice < 0.2 and self.is_last(peer, far):
            return lambda: self.close(peer, far)
        if not data_only and choice < 0.23 and peer in ("S", "C") and \
                self.is_alone(peer) and (slot[0], peer) not in self.passed and \
                not any(s[0] != slot[0] for s in beside):
            return lambda: self.kill_actor(peer)
        return lambda: self.send((peer, far), one=True, least=least)

    @at_a_place
    def blocked_receive(self, who, slot):
        end = self.end(who, slot)
        revents, there, _ = self.view(who, slot)
        if there or revents & (ENDED | POLLPRI) or end.nonblock or end.timeout_ms or \
                end.peek_offset or self.far_end(who, slot).urgent or 0 in end.shut:
            return False
        call = self.pick([c for c in self.receive_calls if c != "recvmmsg"] or ["recv"])
        flags = "0"
        count = self.pick((1, self.size(), 4096))
        least = end.low_water
        if call in RECEIVES_FLAGS and self.chance(0.4):
            flags = self.pick(("PEEK", "WAITALL", "WAITALL", "TRUNC"))
            if flags == "WAITALL":
                least = max(count, least)
        wake = self.waker(who, slot, least)
        if not wake or least > 8000:
            return False
        sleeping = "" if self.chance(0.7) else "^ "
        self.do(f"{who} & {sleeping}receive {slot} {call} {count} {flags} "
                f"{self.random.randint(1, 3)}")
        if self.threads and self.chance(0.3):
            self.beside(who, slot)
        wake()
        self.do(f"{who} =")
        return True

    def beside(self, who, slot):
        """Another thread of the same process does something with the connection meanwhile."""
        for other in self.idle(who[0]):
            if self.process(other) == self.process(who) and self.open_slots(other, slot[0]):
                self.send((other, slot))
                return

    @at_a_place
    def timed(self, who, slot):
        """A receive that waits for SO_RCVTIMEO in vain."""
        end = self.end(who, slot)
        revents, there, _ = self.view(who, slot)
        if there or revents & (ENDED | POLLPRI) or end.nonblock or 0 in end.shut:
            return False
        self.do(f"{who} timeout {slot} RCV 12")
        self.do(f"{who} receive {slot} {self.pick(RECEIVES_FLAGS)} 10 "
                f"{self.pick(('0', '0', 'PEEK', 'WAITALL'))} 1")
        self.do(f"{who} timeout {slot} RCV 0")
        end.timeout_ms = 0
        return True

    @at_a_place
    def interrupted(self, who, slot):
        """A signal without SA_RESTART ends a wait."""
        end = self.end(who, slot)
        revents, there, _ = self.view(who, slot)
        if there or revents & (ENDED | POLLPRI) or 0 in end.shut:
            return False
        order = self.pick((f"poll {slot}:IN {LONG_MS} {self.pick(POLLS)}",
                           f"receive {slot} {self.pick(RECEIVES_FLAGS)} 10 0 1",
                           f"receive {slot} recv 10 WAITALL 1"))
        if order.startswith("receive") and (end.nonblock or end.timeout_ms):
            return False
        self.do(f"{who} ~10:0 {order}")
        return True

    def is_watched_for_edges(self, who, slot):
        """Once the urgent byte has been taken it stands in no queue, and if all other bytes lie in
        shared memory the kernel's set finds nothing there and forgets the edge that the byte made."""
        sets = self.sets[self.process(who)].values()
        return any("ET" in events for known in sets for s, events in known.items()
                   if s[0] == slot[0])

    @at_a_place
    def urgent(self, who, slot):
        if 1 in self.end(who, slot).shut or self.end(who, slot).urgent or \
                0 in self.far_end(who, slot).shut or self.view(who, slot)[0] & ENDED:
            return False  # of two marks the kernel's memory decides which bytes are urgent
        if self.family == "unix" and self.far_end(who, slot).peek_offset:
            return False  # a look from an offset behind the mark's last byte passes the mark
        if self.far_end(who, slot).inq:
            return False  # the kernel's number goes past the mark, FIONREAD's and ours end there
        self.end(who, slot).urgent = True
        if self.family == "unix":  # an urgent byte that was read keeps the socket readable for a while
            for kind in ("poll", "epoll_wait", "blocked_wait"):
                self.weights[kind] = 0
        self.do(f"{who} send {slot} send {self.pick((1, 1, 3, 20))} {self.number()} OOB|NOSIGNAL 1")
        partner = self.partner(who, slot[0])
        if partner and self.chance(0.7):
            peer, far = partner
            takes_it = self.family == "tcp" and not self.is_watched_for_edges(peer, far)
            for _ in range(self.random.randint(1, 4)):
                self.do(f"{peer} " + self.pick((
                    f"receive {far} recv 1 " + ("OOB|" if takes_it else "") +
                    "DONTWAIT 1", f"ioctl {far} SIOCATMARK",
                    f"receive {far} recv {self.size()} DONTWAIT 1",
                    f"receive {far} recv {self.size()} PEEK|DONTWAIT 1",
                    f"poll {far}:IN|PRI 0 poll", f"ioctl {far} FIONREAD")))
        return True

    @at_a_place
    def held(self, who, slot):
        """Bytes that may be held back, and their release."""
        end = self.end(who, slot)
        if end.unread > UNREAD_MAX // 2 or self.view(who, slot)[0] & ENDED:
            return False
        end.unread += 4 * (3000 + OVERHEAD)
        if self.family == "tcp" and self.chance(0.5):
            self.do(f"{who} set {slot} CORK 1")
            for _ in range(self.random.randint(0, 3)):
                self.do(f"{who} send {slot} {self.pick(SENDS_ONE)} {self.size()} {self.number()} "
                        f"{'0'} 1")
            self.do(f"{who} get {slot} CORK")
            self.do(f"{who} set {slot} CORK 0")
        else:
            for _ in range(self.random.randint(1, 3)):
                self.do(f"{who} send {slot} {self.pick(('send', 'sendmsg'))} {self.size()} "
                        f"{self.number()} MORE|NOSIGNAL 1")
            self.do(f"{who} send {slot} send {self.size()} {self.number()} NOSIGNAL 1")
        return True

    @at_a_place
    def stdio(self, who, slot):
        end = self.end(who, slot)
        # a FILE meets a reset past the shim, which would tell it once more
        if end.unread < UNREAD_MAX // 2 and not self.view(who, slot)[0] & ENDED:
            end.unread += 3000 + OVERHEAD
            end.has_file = True
            self.do(f"{who} stdio_put {slot} {self.size()} {self.number()}")
        return True

    @at_a_place
    def passing(self, who, slot):
        if self.family != "unix" or 1 in self.end(who, slot).shut:
            return False
        mine = self.slots[self.process(who)]
        what = self.pick(self.open_slots(who))
        if self.chance(0.5):
            if "x0" not in mine:
                self.do(f"{who} pipe x0 x1")
                mine |= {"x0", "x1"}
            what = "x0"
        elif what[0] == slot[0]:
            return False  # in flight through itself it would never end
        elif self.view(who, what)[1]:
            return False  # what lies in its ring waits for the peer's next call
        self.passes = True
        self.passed.add((what[0], who[0]))
        self.do(f"{who} pass {slot} {what} {self.size()} {self.number()}")
        self.end(who, slot).unread += 3000 + OVERHEAD
        partner = self.partner(who, slot[0])
        if partner and self.chance(0.6):
            peer, far = partner
            for _ in range(self.random.randint(1, 3)):
                self.do(f"{peer} take {far} x2 {self.pick((1, 5000))} DONTWAIT")
        return True
