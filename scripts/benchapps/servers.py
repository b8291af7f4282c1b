# SPDX-License-Identifier: Apache-2.0
"""The servers of a row: started in sessions of their own, waited for, stopped."""

import os
import signal
import subprocess
import time

START_SECONDS = 20
STOP_SECONDS = 10


class Failed(Exception):
    """A program did not do what the row asks for: the row has no figure, the run fails."""


def listens(address):
    """Looks without connecting: a server must not take the probe for a client."""
    kind, _, rest = address.partition(":")
    if kind == "unix":
        with open("/proc/net/unix") as table:
            return any(line.split()[-1] == rest and line.split()[3] == "00010000" for line in table)
    port = ":%04X" % int(rest.rpartition(":")[2])
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(name):
            with open(name) as table:
                for line in table:
                    fields = line.split()
                    if fields[3] == "0A" and fields[1].endswith(port):
                        return True
    return False


class Server:
    def __init__(self, place, argv, listening, stop=signal.SIGTERM):
        self.stop_signal = stop
        self.output = os.path.join(place.directory, os.path.basename(argv[0]) + ".out")
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=place.directory,
                env=place.environment(), start_new_session=True)
        try:
            self.wait_for(listening)
        except Failed:
            self.stop()
            raise

    def wait_for(self, address):
        deadline = time.monotonic() + START_SECONDS
        while not listens(address):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed("%s does not listen: %s" % (self.process.args[0], self.last_words()))
            time.sleep(0.02)

    def last_words(self):
        with open(self.output, errors="replace") as output:
            return " ".join(output.read().split())[-300:]

    def died(self):
        return self.process.poll() is not None

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
