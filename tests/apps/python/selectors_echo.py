# SPDX-License-Identifier: Apache-2.0
"""selectors on both ends: an echo server on epoll, clients on epoll, poll and select in turn."""
import selectors
import socket

import common

CONNECTIONS = 12
ROUNDS = 60


class Peer:
    def __init__(self):
        self.out = bytearray()


def server(text):
    family, address = common.split_address(text)
    common.end_on_sigterm()
    listener = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(64)
    listener.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        common.ready()
        while True:
            for key, events in selector.select():
                if key.fileobj is listener:
                    sock, _ = listener.accept()
                    sock.setblocking(False)
                    selector.register(sock, selectors.EVENT_READ, Peer())
                else:
                    serve(selector, key.fileobj, key.data, events)


def serve(selector, sock, peer, events):
    if events & selectors.EVENT_READ:
        got = sock.recv(30000)
        if not got:
            selector.unregister(sock)
            sock.close()
            return
        peer.out += got
    if peer.out:
        try:
            del peer.out[:sock.send(peer.out)]
        except BlockingIOError:
            pass
    want = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.out else 0)
    selector.modify(sock, want, peer)


class Question:
    """One connection of the client: sends message after message, compares what comes back."""

    def __init__(self, text, number):
        self.sock = common.connect(text)
        self.sock.setblocking(False)
        self.number = number
        self.turn = 0
        self.next()

    def next(self):
        size = 150000 if self.turn % 20 == 19 else 1 + (self.turn * 53 + self.number) % 3000
        self.sent = common.data(self.number * 500 + self.turn, size)
        self.left = memoryview(self.sent)
        self.got = bytearray()

    def interest(self):
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self.left else 0)

    def step(self, events):
        """True when the last round is over."""
        if events & selectors.EVENT_WRITE and self.left:
            self.left = self.left[self.sock.send(self.left):]
        if events & selectors.EVENT_READ:
            part = self.sock.recv(65536)
            common.need(part, f"connection {self.number} ended in round {self.turn}")
            self.got += part
        if len(self.got) < len(self.sent):
            return False
        common.need(bytes(self.got) == self.sent, f"connection {self.number}: other bytes")
        self.turn += 1
        self.next()
        return self.turn == ROUNDS


def client(text, selector_class):
    questions = [Question(text, n) for n in range(CONNECTIONS)]
    with selector_class() as selector:
        for question in questions:
            selector.register(question.sock, question.interest(), question)
        open_count = len(questions)
        while open_count:
            ready = selector.select(common.LIMIT_S)
            common.need(ready, f"{selector_class.__name__}: nothing ready for {common.LIMIT_S} s")
            for key, events in ready:
                if key.data.step(events):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    open_count -= 1
                else:
                    selector.modify(key.fileobj, key.data.interest(), key.data)


def main():
    args = common.arguments()
    if args.role == "server":
        server(args.address)
    for cls in (selectors.EpollSelector, selectors.PollSelector, selectors.SelectSelector):
        client(args.address, cls)


main()
