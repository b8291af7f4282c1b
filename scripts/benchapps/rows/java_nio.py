# SPDX-License-Identifier: Apache-2.0
# packages: openjdk-17-jdk-headless:javac
"""A Java NIO echo server under round trips of 64 bytes."""

import os
import subprocess

from benchapps import loads, ours
from benchapps.row import Row
from benchapps.servers import Failed, Server


def serve(place):
    source = os.path.join(place.tools.programs, "Echo.java")
    done = subprocess.run(["javac", "-d", place.directory, source], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Failed("javac: " + done.stdout[-300:])
    return [Server(place, ["java", "-cp", place.directory, "Echo", place.port("tcp")], place.tcp("tcp"))]


def rows():
    for connections in (1, 50):
        yield Row(name="java.c%d" % connections, title="Java NIO echo, %d connections" % connections,
                  unit="round trip", bar=1.1, aim=None, serve=serve, load=ours.ping(connections),
                  run=loads.run_ours, programs=("java", "javac"))
