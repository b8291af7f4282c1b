# SPDX-License-Identifier: Apache-2.0
"""supervise.py COMMAND...: runs it as the parent of all that it orphans, and kills what remains.

The command finds this process's id in SHMIPC_APP_SUPERVISOR: whoever else has it as parent was
left behind.  The exit status is the command's.
"""

import ctypes
import os
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36


def children():
    with open("/proc/self/task/%d/children" % os.getpid()) as listing:
        return [int(pid) for pid in listing.read().split()]


def kill_the_rest():
    while children():
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        os.wait()


def main():
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit("supervise: prctl failed")
    os.environ["SHMIPC_APP_SUPERVISOR"] = str(os.getpid())
    command = os.fork()
    if command == 0:
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
            signal.signal(number, signal.SIG_DFL)
        os.execvp(sys.argv[1], sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: os.kill(command, number))
    while True:
        pid, status = os.wait()
        if pid == command:
            break
    kill_the_rest()
    sys.exit(os.waitstatus_to_exitcode(status) % 256)


main()
