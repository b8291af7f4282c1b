# SPDX-License-Identifier: Apache-2.0
"""The echo program (lib/echo.sh) in Python: blocking calls, a thread for each connection."""
import random
import signal
import socket
import socketserver
import sys
import threading

QUESTIONS = 2000


def split_address(text):
    kind, rest = text.split(":", 1)
    if kind == "unix":
        return socket.AF_UNIX, rest
    host, port = rest.rsplit(":", 1)
    return socket.AF_INET, (host, int(port))


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while block := self.request.recv(65536):
            self.request.sendall(block)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def serve(text):
    family, address = split_address(text)
    Server.address_family = family
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with Server(address, Echo) as server:
        print("ready", flush=True)
        server.serve_forever()


def connect(text):
    family, address = split_address(text)
    sock = socket.socket(family)
    sock.connect(address)
    return sock


def ask(text):
    with connect(text) as sock, sock.makefile("rb") as answers:
        for i in range(QUESTIONS):
            question = b"question %d\n" % i
            sock.sendall(question)
            if answers.readline() != question:
                sys.exit("wrong answer to question %d" % i)


def send_much(text, size, half_closes_late):
    block = random.Random(1).randbytes(size)
    received = bytearray()
    with connect(text) as sock:
        def send():
            sock.sendall(block)
            if not half_closes_late:
                sock.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send)
        sender.start()
        while part := sock.recv(65536):
            received += part
            if half_closes_late and len(received) == size:
                sock.shutdown(socket.SHUT_WR)
        sender.join()
    if received != block:
        sys.exit("%d of %d bytes came back, or wrong ones" % (len(received), size))


def main():
    role, text = sys.argv[1:3]
    if role == "server":
        serve(text)
    else:
        ask(text)
        send_much(text, int(sys.argv[3]), sys.argv[4:] == ["late"])


main()
