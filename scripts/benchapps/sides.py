# SPDX-License-Identifier: Apache-2.0
"""The two variants of a row: the kernel's sockets, and the shim preloaded into both ends."""

import os
import random
import socket

SIDES = ("kernel", "shim")


def free_port():
    """Below the range that the kernel gives to connecting sockets, so that none of those takes it."""
    while True:
        port = random.randrange(12000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class Place:
    """Where one side of a row lives: a directory, addresses of its own, and an environment."""

    def __init__(self, side, directory, tools):
        self.side = side
        self.directory = directory
        self.tools = tools
        self.addresses = {}
        self.rate = None  # units a second of the last load
        os.makedirs(directory, exist_ok=True)

    def tcp(self, name):
        return self.addresses.setdefault(name, "tcp:127.0.0.1:%d" % free_port())

    def port(self, name):
        return self.tcp(name).rpartition(":")[2]

    def unix(self, name):
        return self.addresses.setdefault(name, "unix:" + os.path.join(self.directory, name))

    def path(self, name):
        return self.unix(name)[len("unix:"):]

    def environment(self):
        environment = {key: value for key, value in os.environ.items()
                       if key != "LD_PRELOAD" and not key.startswith("SHMIPC_")}
        if self.side == "shim":
            environment["LD_PRELOAD"] = self.tools.shim
            environment["SHMIPC_ENDPOINTS"] = ",".join(self.addresses.values())
        return environment

    def units_for(self, seconds, guess):
        """How many units a program that counts should do to run so long."""
        if self.rate is None:
            return guess
        return max(guess // 10, int(self.rate * seconds))


class Tools:
    """The products of the build that are used, and which work and figures go where."""

    def __init__(self, build):
        self.shim = os.path.join(build, "libshmipc_shim.so")
        self.stat = os.path.join(build, "shmipc-stat")
        self.load = os.path.join(build, "benchapps", "load")
        self.results = os.path.join(build, "bench-apps")
        self.programs = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs")

    def missing(self):
        return [path for path in (self.shim, self.stat, self.load) if not os.path.exists(path)]
