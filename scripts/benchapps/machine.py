# SPDX-License-Identifier: Apache-2.0
"""Where and when it was measured."""

import os
import platform
import time


def processor():
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def describe():
    return {"processor": processor(), "cores": len(os.sched_getaffinity(0)),
            "kernel": platform.release(), "libc": " ".join(platform.libc_ver()),
            "date": time.strftime("%Y-%m-%d")}
