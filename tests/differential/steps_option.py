# SPDX-License-Identifier: Apache-2.0
"""Steps that set and ask."""

from place import at_a_place

class OptionSteps:
    """Part of the generator."""

    @at_a_place
    def option(self, who, slot):
        end = self.end(who, slot)
        kind = self.pick(("nonblock", "nonblock", "timeout", "low", "plain", "plain", "get", "get",
                          "inline", "rare"))
        if kind == "nonblock":
            end.nonblock = self.chance(0.5)
            self.do(f"{who} nonblock {slot} {int(end.nonblock)} {self.pick(('fcntl', 'ioctl'))}")
        elif kind == "timeout":
            end.timeout_ms = self.pick((0, 15))
            self.do(f"{who} timeout {slot} RCV {end.timeout_ms}")
        elif kind == "low":
            if self.view(who, slot)[1]:
                return False  # what is there already
            end.low_water = self.pick((1, 1, 1, 4, 50))
            self.do(f"{who} set {slot} RCVLOWAT {end.low_water}")
        elif kind == "plain":
            name = self.pick(("NODELAY", "KEEPALIVE", "PRIORITY"))
            if name == "NODELAY" and not self.nagle:
                name = "KEEPALIVE"
            self.do(f"{who} set {slot} {name} {self.pick((0, 1))}")
        elif kind == "get":
            name = self.pick(("NODELAY", "CORK", "RCVLOWAT", "OOBINLINE", "KEEPALIVE", "ERROR",
                              "TYPE", "DOMAIN", "PASSCRED", "PRIORITY", "ACCEPTCONN") +
                             (("INQ",) if self.family == "tcp" else ()))
            self.do(f"{who} get {slot} {name}")
        elif kind == "inline":
            if end.urgent or self.far_end(who, slot).urgent:
                return False  # whether a mark was passed before shows afterwards
            end.inline = self.chance(0.5)
            self.do(f"{who} set {slot} OOBINLINE {int(end.inline)}")
        elif self.family == "unix":
            name = self.pick(("PASSCRED", "TIMESTAMP", "PEEK_OFF"))
            if self.view(who, slot)[1]:
                return False  # what is there already
            if name == "PEEK_OFF" and self.far_end(who, slot).urgent:
                return False  # see urgent()
            value = self.pick((0, 1)) if name != "PEEK_OFF" else self.pick((-1, 0, 2))
            end.peek_offset = end.peek_offset or name == "PEEK_OFF"
            self.do(f"{who} set {slot} {name} {value}")
        else:
            if self.far_end(who, slot).urgent:
                return False  # see urgent()
            end.inq = True
            self.do(f"{who} set {slot} INQ {self.pick((0, 1, 1))}")
        return True

    @at_a_place
    def ioctl(self, who, slot):
        requests = ["FIONREAD", "FIONREAD", "SIOCATMARK"]
        if self.family == "unix":
            requests.append("SIOCOUTQ")
        self.do(f"{who} ioctl {slot} {self.pick(requests)}")
        return True

    @at_a_place
    def inquire(self, who, slot):
        self.do(f"{who} {self.pick(('name', 'stat'))} {slot}")
        return True
