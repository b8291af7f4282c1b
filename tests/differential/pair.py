# SPDX-License-Identifier: Apache-2.0
"""Two worker processes, S and C, and the orders that they get."""
import os
import signal
import socket
import struct
import time

CHANNEL_FIRST = 200
CHANNELS = 3  # main thread, second thread, child
ACTORS = {"S": ("S", 0), "St": ("S", 1), "Sk": ("S", 2),
          "C": ("C", 0), "Ct": ("C", 1), "Ck": ("C", 2)}
BLOCKED = "blocked"
FIN_SENT = {4, 5, 6, 9, 11}  # FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING
FIN_UNHEARD = {4, 9, 11}
LEAVE_S = 5
ASLEEP_S = 0.02  # so long an actor may take to fall asleep
DEATH_S = 0.003  # a sender looks for a peer that was killed once in a millisecond
CONNECTIONS = 2


class Role:
    """One worker process and its three channels."""

    def __init__(self, name, worker, environment, patience_s):
        self.name = name
        ours, theirs = [], []
        for _ in range(CHANNELS):
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO,
                            struct.pack("ll", int(patience_s), int(patience_s % 1 * 1e6)))
            ours.append(near)
            theirs.append(far)

        actions = [(os.POSIX_SPAWN_DUP2, far.fileno(), CHANNEL_FIRST + i)
                   for i, far in enumerate(theirs)]
        actions += [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)]
        self.pid = os.posix_spawn(worker, [worker], environment, file_actions=actions,
                                  setpgroup=0)
        for far in theirs:
            far.close()
        self.channels = ours
        self.alive = True

    def kill(self):
        """The main process alone."""
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.alive = False

    def end(self):
        """It and all that it has started."""
        for channel in self.channels:
            channel.close()
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except OSError:
            pass
        self.kill()

    def leave(self):
        """In good order, so that it tells what it tells at its exit."""
        for channel in self.channels:
            channel.close()
        deadline = time.monotonic() + LEAVE_S
        while self.alive and time.monotonic() < deadline:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                self.alive = False
            else:
                time.sleep(0.001)
        self.end()


class Pair:
    """Runs the steps of plans.  After each, `views` says what the kernel told the actor."""

    def __init__(self, worker, environments, address_unix, patience_s=5.0):
        self.roles = {name: Role(name, worker, environments[name], patience_s) for name in "SC"}
        self.addresses = {"tcp": None, "unix": address_unix}
        self.fresh()
        port = self.step("S listen l0 0")
        self.addresses["tcp"] = port.partition("=")[2]
        self.step(f"S listen l1 {address_unix}")

    def fresh(self):
        """Before a plan."""
        self.views = {}
        self.late = False  # something did not come in time
        self.unsent = {}  # who has sent what the other kernel has no room for
        self.sent = [{"S": 0, "C": 0} for _ in range(CONNECTIONS)]
        self.fin = [{"S": False, "C": False} for _ in range(CONNECTIONS)]
        self.holders = [{"S": set(), "C": set()} for _ in range(CONNECTIONS)]
        self.poked = [{"S": False, "C": False} for _ in range(CONNECTIONS)]
        self.pending = set()
        self.started = set()  # second threads and children that live

    # ---- what the kernel must have delivered before a step ----

    def settle(self, side):
        other = "C" if side == "S" else "S"
        text = ""
        for i in range(CONNECTIONS):
            sent, ended = self.sent[i][other], self.fin[i][other]
            if sent or ended:
                text += f"@{i}:{sent}:{2 if self.poked[i][side] else int(ended)} "
        return text

    def note(self, who, probe):
        side = ACTORS[who][0]
        process = who.rstrip("t")
        view = []
        self.unsent[who] = False
        parts = probe.split()
        if parts[-1:] == ["late"]:
            self.late = True
            parts.pop()
        for i, part in enumerate(parts):
            holders = self.holders[i][side]
            if part == "-":
                view.append(None)
                if process in holders:
                    holders.discard(process)
                    self.fin[i][side] = not holders
                continue
            revents, there, state, sent, unsent = part.split(",")
            self.unsent[who] |= unsent == "1"
            state = int(state)
            view.append((int(revents, 16), int(there), state))
            holders.add(process)
            other = "C" if side == "S" else "S"
            if int(sent) > self.sent[i][side] and self.fin[i][other] and \
                    not self.holders[i][other]:
                self.poked[i][side] = True  # a reset will be the answer
            self.sent[i][side] = max(int(sent), self.sent[i][side])
            self.fin[i][side] = self.fin[i][side] or state in FIN_SENT
        self.views[who] = view

    def gone(self, process):
        side = process[0]
        for i in range(CONNECTIONS):
            if process in self.holders[i][side]:
                self.holders[i][side].discard(process)
                self.fin[i][side] = not self.holders[i][side]

    # ---- one step ----

    def channel(self, who):
        side, index = ACTORS[who]
        return self.roles[side].channels[index]

    def answer(self, who):
        try:
            text = self.channel(who).recv(4096)
        except OSError:
            return BLOCKED
        if not text:
            return "gone"
        text = text.decode("ascii", "replace")
        if text[0] != "R":
            return text
        outcome, _, probe = text[1:].rpartition("|")
        self.note(who, probe)
        self.hear_end(who)
        return outcome

    def hear_end(self, who):
        """That our end has been heard of is news to our kernel, and an edge.  The other kernel may
        take its time to say so, unless it is asked."""
        if not any(view and view[2] in FIN_UNHEARD for view in self.views[who]):
            return
        side = ACTORS[who][0]
        other = "C" if side == "S" else "S"
        for asked, wait in ((other, "hear"), (who, "heard")):
            if asked not in self.pending and self.roles[asked[0]].alive:
                self.channel(asked).send((self.settle(asked[0]) + wait).encode())
                text = self.channel(asked).recv(4096).decode("ascii", "replace")
                self.note(asked, text.rpartition("|")[2])

    def step(self, line):
        """`WHO order`, `WHO & order` (it is not waited for), `WHO =` (now it is), `WHO kill`,
        `WHO leave` (the second thread ends)."""
        who, _, order = line.partition(" ")
        side = ACTORS[who][0]
        for family, address in self.addresses.items():
            order = order.replace(f"{{{family}}}", str(address))
        if order == "=":
            self.pending.discard(who)
            return self.answer(who)
        if order == "kill":
            self.roles[side].kill()
            self.gone(who)
            time.sleep(DEATH_S)
            return "killed"
        try:
            if order == "leave":
                self.channel(who).send(b"leave")
                self.started.discard(who)
                return "left"
            self.channel(who).send((self.settle(side) + order).encode())
        except OSError:
            return "gone"
        return self.after(who, side, order)

    def after(self, who, side, order):
        verb = order.split(" ", 1)[0]
        if verb == "&":
            self.pending.add(who)
            text = self.answer(who)
            if not order.startswith("& ^"):
                self.fall_asleep(who)
            return "started" if text == "S" else text
        if verb == "exit":
            self.started.discard(who)
            self.gone(who)
            if not self.roles[side].alive:
                self.answer(who)  # nobody will wait for it: the end of its channel
                time.sleep(DEATH_S)
            elif order == "exit kill":  # as a role's own: it closes nothing itself
                time.sleep(DEATH_S)
            return "exits"
        outcome = self.answer(who)
        if verb == "fork" and outcome == "fork=0":
            self.started.add(side + "k")
            for connection in self.holders:
                if side in connection[side]:
                    connection[side].add(side + "k")
        if verb == "thread" and outcome == "thread=0":
            self.started.add(side + "t")
        return outcome

    def fall_asleep(self, who):
        """Wait until the actor sleeps in its call, or has answered."""
        pid = self.roles[ACTORS[who][0]].pid
        if who[1:] != "":
            time.sleep(0.001)  # its thread id is not known here
            return
        end = time.monotonic() + ASLEEP_S
        path = f"/proc/{pid}/stat"
        while time.monotonic() < end:
            try:
                with open(path, encoding="ascii") as file:
                    if file.read().rpartition(")")[2].split()[0] == "S":
                        return
            except OSError:
                return

    # ---- between plans ----

    def clean(self):
        """True: good for another plan."""
        if self.pending or not all(role.alive for role in self.roles.values()):
            return False
        for side in "SC":
            if side + "t" in self.started:
                self.step(f"{side}t leave")
                if self.step(f"{side} join") != "join=0":
                    return False
            if side + "k" in self.started:
                self.step(f"{side}k exit _exit")
                if not self.step(f"{side} wait").startswith("wait="):
                    return False
        good = all(self.step(f"{side} reset") == "reset" for side in "CS")
        self.fresh()
        return good

    def end(self):
        for role in self.roles.values():
            role.end()

    def leave(self):
        for role in self.roles.values():
            if role.alive and not self.pending:
                role.leave()
            else:
                role.end()
