# SPDX-License-Identifier: Apache-2.0
"""socketserver with a thread per connection; blocking clients, and one connection that is filled from
both ends at once by a sending and a receiving thread on each."""
import hashlib
import socket
import socketserver
import struct
import threading

import common

CHUNK = 256 * 1024
CLIENTS = 8
ROUNDS = 200


def read_exactly(sock, size):
    parts = []
    while size:
        part = sock.recv(min(size, CHUNK))
        if not part:
            raise EOFError("stream ended early")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class Flow:
    """Sends and hashes size bytes; receives until EOF and hashes."""

    def __init__(self, sock, size, seed):
        self.sock = sock
        self.size = size
        self.block = common.data(seed, CHUNK)
        self.sent = hashlib.sha256()
        self.received = hashlib.sha256()
        self.received_bytes = 0

    def send(self):
        left, turn = self.size, 0
        while left:
            # The block starts elsewhere each time: a lost or repeated piece changes the hash.
            start = (turn * 4099) % (CHUNK // 2)
            piece = memoryview(self.block)[start:start + min(left, CHUNK // 2)]
            self.sock.sendall(piece)
            self.sent.update(piece)
            left -= len(piece)
            turn += 1
        self.sock.shutdown(socket.SHUT_WR)

    def receive(self):
        buffer = bytearray(CHUNK)
        while True:
            got = self.sock.recv_into(buffer)
            if not got:
                break
            self.received.update(memoryview(buffer)[:got])
            self.received_bytes += got

    def both(self):
        sender = threading.Thread(target=self.send)
        sender.start()
        self.receive()
        sender.join()


class Handler(socketserver.BaseRequestHandler):
    digests = {}
    digests_lock = threading.Condition()

    def handle(self):
        mode, key, size = struct.unpack("!BQQ", read_exactly(self.request, 17))
        if mode == 1:
            self.answer_questions()
        elif mode == 2:
            self.full_duplex(key, size)
        else:
            self.tell_digests(key)

    def answer_questions(self):
        while True:
            head = self.request.recv(4, socket.MSG_WAITALL)
            if not head:
                return
            body = read_exactly(self.request, struct.unpack("!I", head)[0])
            self.request.sendall(common.digest(body) + body)

    def full_duplex(self, key, size):
        flow = Flow(self.request, size, 2)
        flow.both()
        with self.digests_lock:
            self.digests[key] = flow.sent.digest() + flow.received.digest()
            self.digests_lock.notify_all()

    def tell_digests(self, key):
        with self.digests_lock:
            self.digests_lock.wait_for(lambda: key in self.digests, common.LIMIT_S)
            self.request.sendall(self.digests[key])


class TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


def server(text):
    family, address = common.split_address(text)
    cls = UnixServer if family == socket.AF_UNIX else TcpServer
    with cls(address, Handler) as srv:
        common.end_on_sigterm()
        common.ready()
        srv.serve_forever()


def ask(text, number, failures):
    try:
        with common.connect(text) as sock:
            sock.sendall(struct.pack("!BQQ", 1, 0, 0))
            for turn in range(ROUNDS):
                body = common.data(number * 10000 + turn, (turn * 37 * (number + 1)) % 9000)
                sock.sendall(struct.pack("!I", len(body)) + body)
                if read_exactly(sock, 32) != common.digest(body):
                    raise ValueError("digest differs")
                if read_exactly(sock, len(body)) != body:
                    raise ValueError("echo differs")
    except (OSError, EOFError, ValueError) as error:
        failures.append(f"client {number}: {error!r}")


def client(text, mbytes):
    failures = []
    threads = [threading.Thread(target=ask, args=(text, n, failures)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    common.need(not failures, "; ".join(failures))
    key = 7
    with common.connect(text) as sock:
        sock.settimeout(None)
        sock.sendall(struct.pack("!BQQ", 2, key, mbytes * 1000000))
        flow = Flow(sock, mbytes * 1000000, 1)
        flow.both()
    with common.connect(text) as sock:
        sock.sendall(struct.pack("!BQQ", 3, key, 0))
        theirs = read_exactly(sock, 64)
    common.need(flow.received_bytes == mbytes * 1000000, f"only {flow.received_bytes} bytes came")
    common.need(theirs == flow.received.digest() + flow.sent.digest(), "digests differ")


def main():
    args = common.arguments()
    if args.role == "server":
        server(args.address)
    else:
        client(args.address, args.mbytes)


main()
