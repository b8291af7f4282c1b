# SPDX-License-Identifier: Apache-2.0
"""What the test programs share: addresses, data that can be checked, orderly end."""
import argparse
import hashlib
import os
import random
import signal
import socket
import sys

LIMIT_S = int(os.environ["APP_LIMIT_S"])


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("server", "client"))
    parser.add_argument("address", help="tcp:HOST:PORT or unix:PATH")
    parser.add_argument("--mbytes", type=int, default=200)
    return parser.parse_args()


def split_address(text):
    """Gives (family, address as the socket module wants it)."""
    kind, rest = text.split(":", 1)
    if kind == "unix":
        return socket.AF_UNIX, rest
    host, port = rest.rsplit(":", 1)
    return socket.AF_INET, (host, int(port))


def connect(text):
    family, address = split_address(text)
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(LIMIT_S)
    sock.connect(address)
    return sock


def data(seed, size):
    return random.Random(seed).randbytes(size)


def digest(*parts):
    h = hashlib.sha256()
    for part in parts:
        h.update(part)
    return h.digest()


def end_on_sigterm():
    """SIGTERM ends the program in the ordinary way, by SystemExit."""
    def handler(_signum, _frame):
        raise SystemExit(0)
    signal.signal(signal.SIGTERM, handler)


def ready():
    print("ready", flush=True)


def need(condition, message):
    if not condition:
        print("failed:", message, flush=True)
        sys.exit(1)
