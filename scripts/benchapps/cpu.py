# SPDX-License-Identifier: Apache-2.0
"""CPU seconds and memory of processes, as the kernel accounts for them."""

import os

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def read_stat(pid):
    """Parent, and the CPU seconds of the process and of its children that ended and were waited for."""
    with open("/proc/%d/stat" % pid) as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[1]), sum(map(int, fields[11:15])) * TICK_S


def tree_seconds(roots):
    """CPU seconds of these processes and all their descendants, living and ended."""
    parents, seconds = {}, {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parents[int(name)], seconds[int(name)] = read_stat(int(name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    total = 0.0
    for pid in parents:
        ancestor = pid
        while ancestor in parents and ancestor not in roots:
            ancestor = parents[ancestor]
        if ancestor in roots:
            total += seconds[pid]
    return total


def pss_kib(pid):
    """Private memory, and of what is shared the part that falls to this process."""
    with open("/proc/%d/smaps_rollup" % pid) as rollup:
        for line in rollup:
            if line.startswith("Pss:"):
                return int(line.split()[1])
    raise RuntimeError("no Pss line in smaps_rollup")
