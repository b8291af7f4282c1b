# SPDX-License-Identifier: Apache-2.0
"""memcached.py ADDRESS OPERATIONS: speaks memcached's text and binary protocol, checks each answer.

ADDRESS is HOST:PORT or the path of a Unix socket.  Each function is one connection.
"""

import os
import random
import socket
import struct
import sys
import threading

SIZES = [0, 1, 63, 64, 65, 4095, 4096, 65535, 65537, 1000003, 7000001]


def connect(address):
    if address.startswith("/"):
        s = socket.socket(socket.AF_UNIX)
        s.connect(address)
    else:
        host, port = address.rsplit(":", 1)
        s = socket.create_connection((host, int(port)))
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.settimeout(int(os.environ["APP_LIMIT_S"]))
    return s


class Text:
    def __init__(self, address):
        self.socket = connect(address)
        self.input = b""

    def send(self, data):
        self.socket.sendall(data)

    def more(self):
        data = self.socket.recv(262144)
        assert data, "the server ended the connection"
        self.input += data

    def line(self):
        while b"\r\n" not in self.input:
            self.more()
        line, self.input = self.input.split(b"\r\n", 1)
        return line

    def take(self, size):
        parts = [self.input]
        have = len(self.input)
        while have < size:
            data = self.socket.recv(262144)
            assert data, "the server ended the connection"
            parts.append(data)
            have += len(data)
        data = b"".join(parts)
        self.input = data[size:]
        return data[:size]

    def ask(self, line):
        self.send(line + b"\r\n")
        return self.line()

    def set(self, key, value):
        self.send(b"set %s 7 0 %d\r\n%s\r\n" % (key, len(value), value))
        return self.line()

    def get(self, *keys):
        """{key: value} of what the server has."""
        self.send(b"get %s\r\n" % b" ".join(keys))
        found = {}
        while True:
            line = self.line()
            if line == b"END":
                return found
            word, key, flags, size = line.split()
            assert (word, flags) == (b"VALUE", b"7"), line
            found[key] = self.take(int(size))
            assert self.take(2) == b"\r\n"

    def close(self):
        self.send(b"quit\r\n")
        assert self.socket.recv(1) == b"", "bytes after quit"
        self.socket.close()


def expect(got, want):
    assert got == want, "got %r, want %r" % (got[:200], want[:200])


def values(address, operations):
    c = Text(address)
    expect(c.ask(b"flush_all"), b"OK")
    for round_ in range(3):
        for size in SIZES:
            value = os.urandom(size)
            expect(c.set(b"v%d" % size, value), b"STORED")
            expect(c.get(b"v%d" % size)[b"v%d" % size], value)
    expect(c.ask(b"incr nothing 1"), b"NOT_FOUND")
    c.send(b"set n 0 0 1\r\n0\r\n")
    expect(c.line(), b"STORED")
    for i in range(1, 1000):
        expect(c.ask(b"incr n 3"), b"%d" % (3 * i))
    expect(c.ask(b"delete n"), b"DELETED")
    expect(c.ask(b"nonsense"), b"ERROR")
    c.close()


def pipelined(address, operations):
    """Everything is written before anything is read, then one question for many keys."""
    c = Text(address)
    rng = random.Random(3)
    wanted = {b"p%d" % i: rng.randbytes(rng.randrange(400)) for i in range(operations)}
    items = [b"set %s 7 0 %d noreply\r\n%s\r\n" % (k, len(v), v) for k, v in wanted.items()]
    for i in range(0, len(items), 500):
        c.send(b"".join(items[i : i + 500]))
    expect(c.ask(b"mn"), b"MN")
    keys = list(wanted)
    found = {}
    for i in range(0, len(keys), 100):
        found.update(c.get(*keys[i : i + 100]))
    assert found == wanted, "%d of %d values are right" % (
        sum(found.get(k) == v for k, v in wanted.items()),
        len(wanted),
    )
    c.close()


def binary(address, operations):
    """Binary protocol: quiet gets in one write, each with its opaque number, then a no-op."""
    s = connect(address)
    stream = s.makefile("rb")

    def packet(opcode, key=b"", extra=b"", value=b"", opaque=0):
        size = len(key) + len(extra) + len(value)
        return struct.pack(">BBHBBHIIQ", 0x80, opcode, len(key), len(extra), 0, 0, size, opaque, 0) + (
            extra + key + value
        )

    def answer():
        head = struct.unpack(">BBHBBHIIQ", stream.read(24))
        assert head[0] == 0x81, head
        body = stream.read(head[6])
        return head[1], head[5], head[7], body[head[3] + head[2] :]

    wanted = []
    for i in range(operations):
        wanted.append(os.urandom(i % 3000))
        s.sendall(packet(0x01, b"b%d" % i, struct.pack(">II", 0, 0), wanted[i], i))
        assert answer() == (0x01, 0, i, b"")
    for start in range(0, operations, 50):
        some = range(start, min(start + 50, operations))
        s.sendall(b"".join(packet(0x09, b"b%d" % i, opaque=i) for i in some) + packet(0x0A, opaque=1 << 30))
        for i in some:
            assert answer() == (0x09, 0, i, wanted[i]), i
        assert answer()[:3] == (0x0A, 0, 1 << 30)
    s.sendall(packet(0x07))
    assert answer()[:2] == (0x07, 0)
    expect(stream.read(), b"")
    s.close()


def model(address, operations, seed):
    """Random operations beside a dict that says what the answer is."""
    c = Text(address)
    rng = random.Random(seed)
    have = {}
    for _ in range(operations):
        key = b"m%d.%d" % (seed, rng.randrange(60))
        dice = rng.random()
        if dice < 0.4:
            value = rng.randbytes(rng.choice([3, 50, 1500, 40000]))
            expect(c.set(key, value), b"STORED")
            have[key] = value
        elif dice < 0.8:
            assert c.get(key) == ({key: have[key]} if key in have else {}), key
        elif dice < 0.9:
            c.send(b"append %s 0 0 4\r\ntail\r\n" % key)
            expect(c.line(), b"STORED" if key in have else b"NOT_STORED")
            if key in have:
                have[key] += b"tail"
        else:
            expect(c.ask(b"delete " + key), b"DELETED" if key in have else b"NOT_FOUND")
            have.pop(key, None)
    c.close()


def threads(address, operations):
    failures = []

    def one(seed):
        try:
            model(address, operations, seed)
        except BaseException as error:
            failures.append(repr(error)[:300])

    running = [threading.Thread(target=one, args=(seed,)) for seed in range(8)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert not failures, failures


def connections(address, operations):
    c = Text(address)
    c.send(b"stats\r\n")
    while True:
        words = c.line().split()
        if words[0] == b"END":
            break
        if words[1] == b"curr_connections":
            print(int(words[2]))
    c.close()


def main():
    globals()[sys.argv[1]](sys.argv[2], int(sys.argv[3]))


main()
