#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Leave forged bequests (preload/bequest.c) under the numbers where the shim looks, then become COMMAND."""
import fcntl
import os
import resource
import struct
import sys

MAGIC = 0x7473657571656268
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def item(fd, cookie=1):
    return struct.pack("=QQQiIII", cookie, 10**12, 10**12, fd, 1, 1000, 0)


def forge(content, seals=SEALS):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    start = 768 if limit >= 1024 else limit * 3 // 4
    low = os.memfd_create("shmipc-bequest", os.MFD_ALLOW_SEALING)
    high = fcntl.fcntl(low, fcntl.F_DUPFD, start)
    os.close(low)
    os.write(high, content)
    fcntl.fcntl(high, fcntl.F_ADD_SEALS, seals)


def header(count, pid=None):
    return struct.pack("=QiI", MAGIC, os.getpid() if pid is None else pid, count)


forge(header(3) + item(-5) + item(1 << 30) + item(0))
forge(header(2**32 - 1) + item(0))
forge(header(1))
forge(b"short")
forge(header(1, pid=1) + item(1))
forge(header(1) + item(1) + item(2))
forge(header(1) + item(0), seals=fcntl.F_SEAL_SEAL)
os.execvp(sys.argv[1], sys.argv[1:])
