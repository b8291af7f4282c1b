# SPDX-License-Identifier: Apache-2.0
"""supervise.py COMMAND...: runs it as the parent of all that it orphans, and kills what remains.

The command finds this process's id in SHMIPC_APP_SUPERVISOR: whoever else has it as parent was
left behind.  Where it may, it gives the command a /dev/shm that nobody else uses, and then
SHMIPC_APP_OWN_SHM is set: whatever lies there in the end was left behind too.  The exit status is
the command's.
"""

import ctypes
import os
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS = 0x20000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 0x4000, 0x40000

libc = ctypes.CDLL(None)


def children():
    with open("/proc/self/task/%d/children" % os.getpid()) as listing:
        return [int(pid) for pid in listing.read().split()]


def kill_the_rest():
    while children():
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        os.wait()


def own_shm():
    return (
        libc.unshare(CLONE_NEWNS) == 0
        and libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) == 0
        and libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=1777") == 0
    )


def main():
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit("supervise: prctl failed")
    if own_shm():
        os.environ["SHMIPC_APP_OWN_SHM"] = "1"
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
