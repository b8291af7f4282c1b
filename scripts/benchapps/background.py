# SPDX-License-Identifier: Apache-2.0
"""Busy processes on each core while a row is measured."""

import os
import signal

from benchapps import cpu


def spin(core, policy):
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, policy, os.sched_param(0))
    while True:
        pass


class Background:
    """policy: SCHED_IDLE keeps a core from going idle, SCHED_OTHER competes for it; None: nobody."""

    def __init__(self, policy, each=1):
        self.policy, self.each = policy, each
        self.pids = []

    def __enter__(self):
        cores = sorted(os.sched_getaffinity(0)) if self.policy is not None else []
        for core in cores * self.each:
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                spin(core, self.policy)
            self.pids.append(pid)
        return self

    def seconds(self):
        return sum(cpu.read_stat(pid)[1] for pid in self.pids)

    def __exit__(self, *unused):
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.pids = []


AWAKE = os.SCHED_IDLE
HOGS = os.SCHED_OTHER
