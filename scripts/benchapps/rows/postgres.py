# SPDX-License-Identifier: Apache-2.0
# packages: postgresql-15:/usr/lib/postgresql/*/bin/postgres postgresql-contrib:pgbench
"""pgbench -S over a Unix socket. PostgreSQL refuses to run as root, so both ends run as its user."""

import os
import re
import shutil
import signal
import subprocess

from benchapps.loads import Figure
from benchapps.row import Row
from benchapps.servers import Failed, Server

PORT = "5432"  # a part of the socket's name, no port is opened


def as_user():
    if os.getuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]


def must(place, *argv):
    """Without the shim on either side."""
    plain = {key: value for key, value in place.environment().items() if key != "LD_PRELOAD"}
    done = subprocess.run([*as_user(), *argv], cwd=place.directory, env=plain, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Failed("%s: %s" % (argv[0], done.stdout.strip()[-300:]))


def serve(place):
    address = place.unix(".s.PGSQL." + PORT)
    if os.getuid() == 0:
        shutil.chown(place.directory, "postgres", "postgres")
    data = os.path.join(place.directory, "data")
    must(place, "initdb", "-D", data, "--no-sync", "-A", "trust", "-U", "bench")
    server = Server(place, [*as_user(), "postgres", "-D", data, "-p", PORT, "-k", place.directory,
                            "-c", "listen_addresses="], address, stop=signal.SIGINT)
    try:
        must(place, "pgbench", "-i", "-q", "-h", place.directory, "-p", PORT, "-U", "bench", "postgres")
    except Failed:
        server.stop()
        raise
    return [server]


def load(clients):
    def argv(place, seconds):
        return [*as_user(), "pgbench", "-S", "-n", "-c", str(clients), "-T", str(max(1, round(seconds))),
                "-h", place.directory, "-p", PORT, "-U", "bench", "postgres"]
    return argv


def read(text, unused):
    units = re.search(r"number of transactions actually processed: (\d+)", text)
    failed = re.search(r"number of failed transactions: (\d+)", text)
    rate = re.search(r"^tps = ([0-9.]+)", text, re.M)
    average = re.search(r"latency average = ([0-9.]+) ms", text)
    if not (units and rate and average) or (failed and failed.group(1) != "0"):
        raise Failed("pgbench: " + " ".join(text.split())[-300:])
    return Figure(units=int(units.group(1)), rate=float(rate.group(1)),
                  latency_us=float(average.group(1)) * 1e3)


def rows():
    for clients in (1, 4):
        yield Row(name="pgbench.c%d" % clients, title="pgbench -S -c %d, Unix" % clients,
                  unit="transaction", bar=1.3, aim=2, serve=serve, load=load(clients), read=read,
                  programs=("initdb", "postgres", "pgbench"), least_seconds=1)
