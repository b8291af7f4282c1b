# SPDX-License-Identifier: Apache-2.0
"""The spellings of calls, and the limits within which their outcome is the kernel's alone."""

SENDS = ["write", "__write", "send", "__send", "sendto", "writev", "pwritev2", "sendmsg", "sendmmsg",
         "sendfile", "splice", "dprintf"]
SENDFILES = ["sendfile_device", "sendfile_nothing", "sendfile_maps", "sendfile_made"]
SENDS_ONE = ["write", "send", "sendto", "writev", "sendmsg"]  # whose bytes arrive at once
SENDS_FLAGS = ["send", "__send", "sendto", "sendmsg", "sendmmsg"]
RECEIVES = ["read", "__read", "__read_chk", "recv", "__recv_chk", "recvfrom", "readv", "preadv2",
            "recvmsg", "recvmsg_named", "recvmmsg", "splice"]
RECEIVES_FLAGS = ["recv", "__recv_chk", "recvfrom", "recvmsg", "recvmsg_named"]
EVENTS = ["IN", "OUT", "IN|OUT", "IN|RDHUP", "RDHUP", "IN|OUT|RDHUP", "IN|PRI", "0", "PRI",
          "RDNORM", "WRNORM", "RDNORM|IN", "PRI|RDHUP"]
POLLS = ["poll", "ppoll", "select", "pselect"]
EPOLL_WAITS = ["epoll_wait", "epoll_pwait", "epoll_pwait2"]
DUPS = ["dup", "dup2", "dup3", "F_DUPFD", "F_DUPFD_CLOEXEC"]
POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLRDHUP = 1, 2, 4, 8, 16, 0x2000
ENDED = POLLERR | POLLHUP | POLLRDHUP
UNREAD_MAX = 40 * 1024  # with which a Unix socket is surely writable still
OVERHEAD = 1024  # of one message in a Unix socket
LONG_MS = 5000
SHORT_MS = 5
LEFT_BEHIND = "left behind by "  # and who: a mark of a set, whose registration outlives the number
