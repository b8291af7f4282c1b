# SPDX-License-Identifier: Apache-2.0
"""zeromq.py server|client PREFIX MESSAGES: every common pattern of ZeroMQ between two processes.

PREFIX.0 to PREFIX.4 are addresses, tcp://HOST:PORT or ipc://PATH: see `address`.
"""

import hashlib
import os
import random
import sys
import threading

import zmq

LIMIT_MS = int(os.environ["APP_LIMIT_S"]) * 1000
LARGE = [0, 1, 255, 256, 8192, 65537, 1_000_003, 30_000_000]


def address(prefix, number):
    """tcp://HOST:PORT and four ports more, or paths that end in the number."""
    if prefix.startswith("tcp"):
        base, port = prefix.rsplit(":", 1)
        return "%s:%d" % (base, int(port) + number)
    return "%s.%d" % (prefix, number)


def socket_of(context, kind, **options):
    s = context.socket(kind)
    s.setsockopt(zmq.LINGER, LIMIT_MS)
    s.setsockopt(zmq.RCVTIMEO, LIMIT_MS)
    s.setsockopt(zmq.SNDTIMEO, LIMIT_MS)
    for name, value in options.items():
        s.setsockopt(getattr(zmq, name), value)
    return s


# ---- server ----

bound = threading.Barrier(5)  # the four below and the main thread


def replier(context, prefix):
    """REP: gives each message back with its digest as a second part."""
    s = socket_of(context, zmq.REP, RCVTIMEO=-1)
    s.bind(address(prefix, 0))
    bound.wait()
    while True:
        data = s.recv()
        s.send_multipart([data, hashlib.sha256(data).digest()])


def router(context, prefix):
    """ROUTER: many clients; answers in another order than the questions came."""
    s = socket_of(context, zmq.ROUTER, RCVTIMEO=-1, SNDHWM=0, RCVHWM=0)
    s.bind(address(prefix, 1))
    bound.wait()
    held = []
    while True:
        held.append(s.recv_multipart())
        if held[-1][1] == b"flush" or len(held) >= 16:
            random.shuffle(held)
            for message in held:
                s.send_multipart(message)
            held = []


def publisher(context, prefix):
    """XPUB tells of each subscription; 'go' on the REP of address 3 starts a run."""
    s = socket_of(context, zmq.XPUB, SNDHWM=0)
    s.bind(address(prefix, 2))
    control = socket_of(context, zmq.REP, RCVTIMEO=-1)
    control.bind(address(prefix, 3))
    bound.wait()
    while True:
        subscribers, messages = (int(word) for word in control.recv().split())
        for _ in range(subscribers):
            assert s.recv()[:1] == b"\1"
        for i in range(messages):
            s.send_multipart([b"even" if i % 2 == 0 else b"odd", b"%d" % i, b"x" * (i % 1000)])
        s.send_multipart([b"end"])
        control.send(b"done")
        for _ in range(subscribers):
            assert s.recv()[:1] == b"\0"


def sink(context, prefix):
    """PULL: sums up what several pushers send; answers the sum by PUSH of each request."""
    s = socket_of(context, zmq.PULL, RCVTIMEO=-1, RCVHWM=1000)
    s.bind(address(prefix, 4))
    bound.wait()
    count = size = total = 0
    out = None
    while True:
        parts = s.recv_multipart()
        if len(parts) == 2:  # ["report", where]
            out = socket_of(context, zmq.PUSH)
            out.connect(parts[1].decode())
            out.send_string("%d %d %d" % (count, size, total))
            out.close()
            count = size = total = 0
            continue
        count += 1
        size += len(parts[0])
        total += sum(parts[0][:16])


TARGETS = [replier, router, publisher, sink]


def server(prefix, messages):
    context = zmq.Context(io_threads=2)
    for target in TARGETS:
        threading.Thread(target=target, args=(context, prefix), daemon=True).start()
    bound.wait()
    print("ready", flush=True)
    threading.Event().wait()


# ---- client ----


def request_reply(context, prefix, messages):
    s = socket_of(context, zmq.REQ)
    s.connect(address(prefix, 0))
    rng = random.Random(1)
    for size in LARGE + [rng.randrange(3000) for _ in range(messages)] + LARGE:
        data = rng.randbytes(size)
        s.send(data)
        got, digest = s.recv_multipart()
        assert got == data and digest == hashlib.sha256(data).digest(), size
    s.close()


def dealers(context, prefix, messages):
    """Eight connections of one thread in one poller, 64 questions under way on each."""
    sockets = {}
    poller = zmq.Poller()
    for number in range(8):
        s = socket_of(context, zmq.DEALER, SNDHWM=0, RCVHWM=0)
        s.connect(address(prefix, 1))
        poller.register(s, zmq.POLLIN)
        sockets[s] = (number, set())
    for start in range(0, messages, 64):
        for s, (number, waiting) in sockets.items():
            for i in range(start, start + 64):
                waiting.add(b"%d.%d" % (number, i))
                s.send_multipart([b"%d.%d" % (number, i), b"y" * (i % 500)])
            s.send_multipart([b"flush", b""])
            waiting.add(b"flush")
        while any(waiting for _, waiting in sockets.values()):
            ready = poller.poll(LIMIT_MS)
            assert ready, "answers are missing"
            for s, _ in ready:
                name, _ = s.recv_multipart()
                sockets[s][1].remove(name)
                assert name == b"flush" or name.startswith(b"%d." % sockets[s][0])
    for s in sockets:
        s.close()


def subscribers(context, prefix, messages):
    control = socket_of(context, zmq.REQ)
    control.connect(address(prefix, 3))
    wanted = {b"even": 0, b"odd": 1, b"": None}
    listeners = []
    for topic in wanted:
        s = socket_of(context, zmq.SUB, RCVHWM=0)
        s.setsockopt(zmq.SUBSCRIBE, topic)
        if topic:
            s.setsockopt(zmq.SUBSCRIBE, b"end")
        s.connect(address(prefix, 2))
        listeners.append((s, wanted[topic]))
    # even, odd, end and all: of a topic that it knows already the publisher does not hear again
    control.send(b"4 %d" % messages)
    for s, parity in listeners:
        for i in range(messages):
            if parity is None or i % 2 == parity:
                topic, number, filling = s.recv_multipart()
                assert (number, filling) == (b"%d" % i, b"x" * (i % 1000)), (number, i)
        assert s.recv_multipart() == [b"end"]
    assert control.recv() == b"done"
    for s, _ in listeners:
        s.close()
    control.close()


def pushers(context, prefix, messages):
    """Four threads push through connections of their own, past the high-water mark."""
    expected = [0, 0, 0]
    lock = threading.Lock()

    def push(seed):
        s = socket_of(context, zmq.PUSH, SNDHWM=100)
        s.connect(address(prefix, 4))
        rng = random.Random(seed)
        for _ in range(messages):
            data = rng.randbytes(rng.randrange(1, 8000))
            s.send(data)
            with lock:
                expected[0] += 1
                expected[1] += len(data)
                expected[2] += sum(data[:16])
        s.close()

    threads = [threading.Thread(target=push, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answer = socket_of(context, zmq.PULL)
    back = "tcp://127.0.0.1:%d" % answer.bind_to_random_port("tcp://127.0.0.1")
    asker = socket_of(context, zmq.PUSH)
    asker.connect(address(prefix, 4))
    got = [0, 0, 0]
    while got[0] < expected[0]:  # the last ones of the four may still be on their way
        asker.send_multipart([b"report", back.encode()])
        got = [a + b for a, b in zip(got, map(int, answer.recv().split()))]
    assert got == expected, (got, expected)
    asker.close()
    answer.close()


def reconnect(context, prefix, messages):
    """Three hundred short-lived clients."""
    for i in range(300):
        s = socket_of(context, zmq.REQ)
        s.connect(address(prefix, 0))
        s.send(b"%d" % i)
        assert s.recv_multipart()[0] == b"%d" % i
        s.close()


def main():
    role, prefix, messages = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if role == "server":
        server(prefix, messages)
    context = zmq.Context()
    globals()[role](context, prefix, messages)
    context.term()


main()
