#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One end of the connections of a rendezvous test: plain sockets, nothing of the project.

peer.py server ADDRESS [KEY=VALUE...]   prints "ready PORT", echoes until killed
peer.py client ADDRESS [KEY=VALUE...]   round trips with checked content, then prints "done JSON"
peer.py both ADDRESS [KEY=VALUE...]     a server thread, and a client of the address read from stdin
peer.py exec-server ADDRESS execs=N     echoes N times and becomes another program, with the connection
peer.py exec-client ADDRESS lives=N     the same for the connecting end
peer.py fork-epoll ADDRESS              an epoll server that forks while connections idle
ADDRESS: tcp:HOST:PORT (PORT 0: any), unix:PATH, unix:@NAME.
"""
import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import socket
import subprocess
import sys
import termios
import threading
import time


def parse(address):
    kind, rest = address.split(":", 1)
    if kind == "unix":
        return socket.AF_UNIX, ("\0" + rest[1:] if rest.startswith("@") else rest)
    host, port = rest.rsplit(":", 1)
    if host.startswith("["):
        return socket.AF_INET6, (host[1:-1], int(port))
    return socket.AF_INET, (host, int(port))


def limits(options):
    if "as" in options:
        resource.setrlimit(resource.RLIMIT_AS, (int(options["as"]), int(options["as"])))
    if "as_left" in options:
        with open("/proc/self/statm", encoding="ascii") as statm:
            pages = int(statm.read().split()[0])
        most = pages * resource.getpagesize() + int(options["as_left"])
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if "fsize" in options:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(options["fsize"]), int(options["fsize"])))


def change_world(options):
    """What a daemon does to itself before it serves, or a client before it dials."""
    if "chroot" in options:
        os.chroot(options["chroot"])
        os.chdir("/")
    if "nofile" in options:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(options["nofile"]), int(options["nofile"])))
    if "closeall" in options:
        for fd in range(3, 70000):
            try:
                os.close(fd)
            except OSError:
                pass
    if "setuid" in options:
        os.setgid(int(options["setuid"]))
        os.setuid(int(options["setuid"]))


def fill_descriptors():
    """Every number that the limit allows is taken; returns how many of them were free."""
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
    return held


def segments():
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        return {line.split()[4] for line in maps if "memfd:shmipc-segment" in line}


def descriptors():
    return len(os.listdir("/proc/self/fd"))


# ---- server ----

def listen(address, options):
    family, name = parse(address)
    if "activated" in options:
        assert os.environ["LISTEN_FDS"] == "1"
        return socket.socket(fileno=3)
    if family == socket.AF_INET6 and options.get("dual"):
        s = socket.create_server(name, family=family, dualstack_ipv6=True, backlog=200)
    else:
        s = socket.socket(family, socket.SOCK_STREAM)
        if family != socket.AF_UNIX:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if options.get("reuseport"):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.bind(name)
        s.listen(200)
    return s


def echo_all(listener):
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener.fileno(), select.EPOLLIN)
    conns = {}
    while True:
        for fd, _ in epoll.poll():
            if fd == listener.fileno():
                try:
                    conn, _ = listener.accept()
                except BlockingIOError:
                    continue
                conns[conn.fileno()] = conn
                epoll.register(conn.fileno(), select.EPOLLIN)
                continue
            try:
                data = conns[fd].recv(65536)
            except ConnectionResetError:
                data = b""
            if data:
                conns[fd].setblocking(True)
                conns[fd].sendall(data)
            else:
                epoll.unregister(fd)
                conns.pop(fd).close()


def echo_one(conn):
    while True:
        data = conn.recv(65536)
        if not data:
            return
        conn.sendall(data)


BURSTS, BURST_MESSAGES, BURST_NAP_S = 5, 30, 0.2


def echo_by_set(conn):
    """By an epoll set made here; a burst is answered when it is over."""
    conn.setblocking(False)
    epoll = select.epoll()
    epoll.register(conn.fileno(), select.EPOLLIN)
    while epoll.poll():
        try:
            data = conn.recv(65536)
        except BlockingIOError:
            continue
        if not data:
            return
        if data.startswith(b"burst"):
            time.sleep(BURST_NAP_S)
        conn.sendall(data)


def serve_forking(listener, serve=echo_one):
    while True:
        conn, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            serve(conn)
            conn.close()
            sys.exit(0)
        conn.close()
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break


def become(fd, address, options):
    """The same program again, in our place, with the connection as descriptor `fd`."""
    os.set_inheritable(fd, True)
    if options.pop("held", None):
        subprocess.Popen(["/bin/sh", "-c", f"sleep 0.5; printf 0123456789abcdef >&{fd}"], pass_fds=[fd])
        options["echoed"] = "16"
    shell = [sys.executable, __file__, "resume", address, f"fd={fd}", *(f"{k}={v}" for k, v in options.items())]
    os.execv(shell[0], shell)


def resume(_, options):
    """After exec: echo, or go on asking."""
    fd = int(options["fd"])
    s = socket.socket(fileno=fd)
    s.setblocking(True)
    options["lives"] = str(int(options.get("lives", 1)) - 1)
    if options.get("part") == "client":
        go_on(s, "", options)
        return
    for _ in range(int(options["execs"])):
        data = s.recv(65536)
        if not data:
            break
        s.sendall(data)
    else:
        if int(options["lives"]) > 0:
            become(fd, "", options)
    echo_one(s)
    s.close()


def go_on(s, address, options):
    rounds, size = int(options.get("rounds", 100)), int(options.get("bytes", 64))
    for r in range(rounds):
        round_trip(s, r, size)
    if int(options.get("lives", 0)) > 0:
        become(s.fileno(), address, options)
    left = int(options.get("echoed", 0))
    while left > 0:
        left -= len(s.recv(left)) or sys.exit("the end, and not what the child has sent")
    print("done {}", flush=True)
    s.close()
    sys.stdin.read()


def exec_server(address, options):
    """Accepts one connection, echoes `execs` times, and becomes another program; again, `lives` times."""
    listener = listen(address, options)
    ready(listener)
    conn, _ = listener.accept()
    listener.close()
    about_to_close, closes = os.pipe()
    if "fork" in options and os.fork() > 0:
        os.close(closes)
        conn.close()
        os.wait()
        return
    os.close(closes)
    for _ in range(int(options["execs"])):
        conn.sendall(conn.recv(65536))
    os.read(about_to_close, 1)  # on a busy machine that may be late
    become(conn.detach(), address, options)


def exec_client(address, options):
    options["part"] = "client"
    go_on(dial(address, options), address, options)


def ready(listener):
    name = listener.getsockname()
    print("ready", name[1] if isinstance(name, tuple) else 0, flush=True)


def server(address, options):
    limits(options)
    listener = listen(address, options)
    ready(listener)
    change_world(options)
    held = fill_descriptors() if "full" in options else []
    for _ in range(int(options.get("spare", 0))):
        os.close(held.pop())
    time.sleep(float(options.get("delay", 0)))
    mode = options.get("mode", "epoll")
    if mode == "fork":
        serve_forking(listener)
    if mode == "fork-set":
        serve_forking(listener, echo_by_set)
    for _ in range(int(options.get("workers", 1)) - 1):
        if os.fork() == 0:
            break
    if mode in ("blocking", "poll", "select"):
        poll = select.poll()
        poll.register(listener.fileno(), select.POLLIN)
        while True:
            if mode == "poll":
                poll.poll()
            elif mode == "select":
                select.select([listener], [], [])
            conn, _ = listener.accept()
            echo_one(conn)
            conn.close()
    echo_all(listener)


# ---- client ----

def dial(address, options):
    family, name = parse(address)
    s = socket.socket(family, socket.SOCK_STREAM)
    if "from" in options:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", int(options["from"])))
    if "nonblock" not in options:
        s.connect(name)
        return s
    s.setblocking(False)
    if s.connect_ex(name) == errno.EINPROGRESS:
        poll = select.poll()
        poll.register(s, select.POLLOUT)
        poll.poll(5000)
        assert s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    s.setblocking(True)
    return s


def take(s, count):
    parts = []
    while count:
        part = s.recv(count)
        assert part, "the stream ended early"
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def round_trip(s, number, size):
    data = (number.to_bytes(4, "big") * (size // 4 + 1))[:size]
    s.sendall(data)
    got = take(s, size)
    assert got == data, "wrong bytes"


def client(address, options):
    limits(options)
    change_world(options)
    rounds, size = int(options.get("rounds", 100)), int(options.get("bytes", 64))
    seen = {"segments": [], "descriptors": [], "different": 0}
    different = set()

    def sample():
        different.update(segments())
        seen["segments"].append(len(segments()))
        seen["different"] = len(different)
        seen["descriptors"].append(descriptors())

    for i in range(int(options.get("sequence", 0))):
        s = dial(address, options)
        for r in range(rounds):
            round_trip(s, i * rounds + r, size)
        s.close()
        if i % 10 == 9:
            sample()
    idle = [dial(address, options) for _ in range(int(options.get("idle", 0)))]
    for s in idle:
        for r in range(9):
            round_trip(s, r, size)
    if idle:
        time.sleep(0.3)
    conns = [dial(address, options) for _ in range(int(options.get("conns", 1)))]
    held = fill_descriptors() if "full" in options else []
    for r in range(rounds):
        for i, s in enumerate(conns):
            round_trip(s, r * 1000 + i, size)
            if "async" in options and r == rounds // 2:
                fcntl.ioctl(s.fileno(), termios.FIOASYNC, (1).to_bytes(4, sys.byteorder))
            if "unseen" in options and r == rounds // 2:
                child = ctypes.CDLL(None)._Fork()
                if child == 0:
                    os._exit(0)
                os.waitpid(child, 0)
            if "forks" in options and r % int(options["forks"]) == 0:
                child = os.fork()
                if child == 0:
                    os._exit(0)
                os.waitpid(child, 0)
    for fd in held:
        os.close(fd)
    sample()
    print("done", json.dumps(seen), flush=True)
    if "hold" in options:
        sys.stdin.read()
    for s in conns:
        s.close()


def burst_client(address, options):
    """Small messages to a server that is busy with something else."""
    s = dial(address, options)
    for r in range(int(options.get("rounds", 40))):
        round_trip(s, r, 64)
    for _ in range(BURSTS):
        s.sendall(b"burst")
        time.sleep(BURST_NAP_S / 4)
        for _ in range(BURST_MESSAGES):
            s.sendall(b"message.")
        take(s, len(b"burst") + BURST_MESSAGES * len(b"message."))
    print("done {}", flush=True)
    s.close()
    sys.stdin.read()


def returning_client(address, options):
    """Large conversations, a connection for each, one at once after the other, and a small one behind them; then
    it waits by a set, or by poll()."""
    held = dial(address, options)
    epoll = select.epoll()
    epoll.register(held.fileno(), select.EPOLLIN)
    for r in range(20):
        round_trip(held, r, 64)
    for i in range(int(options.get("sequence", 6))):
        s = dial(address, options)
        for r in range(20):
            round_trip(s, r, 64)
        for r in range(3):
            round_trip(s, 100 * i + r, 3 << 20)
        s.close()
    s = dial(address, options)
    for r in range(20):
        round_trip(s, r, 64)
    s.close()
    print("done {}", flush=True)
    if "poll" in options:
        poll = select.poll()
        poll.register(held.fileno(), select.POLLIN)
        poll.poll(20000)
    else:
        epoll.poll(20)
    held.close()


def leaving_client(address, options):
    """The same conversations, and then no call until it ends, in good order or not; `open`: in the middle of one."""
    s = None
    for i in range(6):
        s = dial(address, options)
        for r in range(20):
            round_trip(s, r, 64)
        for r in range(3):
            round_trip(s, 100 * i + r, 3 << 20)
        if i < 5 or "open" not in options:
            s.close()
    print("done {}", flush=True)
    sys.stdin.read()


# ---- one way ----

STREAM_BYTES, STREAM_CALLS = 1 << 20, 8


def dropped():
    """Segments for which this network namespace had granted room, and then had none."""
    with open("/proc/net/netstat", encoding="ascii") as file:
        lines = [line.split() for line in file if line.startswith("TcpExt:")]
    counters = dict(zip(*lines))
    return int(counters["RcvPruned"]) + int(counters["TCPRcvQDrop"])


def source_server(address, options):
    """A stream for each client, one after the other."""
    listener = listen(address, options)
    ready(listener)
    for _ in range(int(options["sequence"])):
        conn, _ = listener.accept()
        for _ in range(STREAM_CALLS):
            conn.sendall(bytes(STREAM_BYTES))
        conn.recv(1)
        conn.close()
    print("done", json.dumps({"dropped": dropped()}), flush=True)
    sys.stdin.read()


def sink_client(address, options):
    for _ in range(int(options["sequence"])):
        s = dial(address, options)
        left = STREAM_BYTES * STREAM_CALLS
        while left:
            got = len(s.recv(STREAM_BYTES))
            assert got, f"{left} bytes missing"
            left -= got
        s.sendall(b"x")
        s.close()
    print("done {}", flush=True)
    sys.stdin.read()


# ---- others ----

def both(address, options):
    listener = listen(address, options)

    def serve():
        while True:
            conn, _ = listener.accept()
            threading.Thread(target=echo_one, args=(conn,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    ready(listener)
    client(sys.stdin.readline().strip(), options)
    sys.stdin.read()


def fork_epoll(address, options):
    """Two connections; when the second has long been the only busy one, a child closes its copies."""
    listener = listen(address, options)
    ready(listener)
    epoll = select.epoll()
    conns = {}
    for _ in range(2):
        conn, _ = listener.accept()
        epoll.register(conn.fileno(), select.EPOLLIN)
        conns[conn.fileno()] = conn
    quiet, count = min(conns), 0
    while conns:
        if count == 231:
            child = os.fork()
            if child == 0:
                epoll.close()
                for conn in conns.values():
                    conn.close()
                os._exit(0)
            os.waitpid(child, 0)
            epoll.unregister(quiet)
            epoll.register(quiet, select.EPOLLIN)
        for fd, _ in epoll.poll():
            data = conns[fd].recv(65536)
            if data:
                conns[fd].sendall(data)
                count += 1
            else:
                epoll.unregister(fd)
                conns.pop(fd).close()


def fork_epoll_client(address, _):
    first, second = dial(address, {}), dial(address, {})
    for s in (first, second):
        for r in range(100):
            round_trip(s, r, 100)
    for r in range(31):
        time.sleep(0.02)
        round_trip(second, r, 100)
    time.sleep(0.3)
    for r in range(100):
        round_trip(first, r, 100)
    print("done {}", flush=True)


def main():
    roles = {"server": server, "client": client, "both": both, "fork-epoll": fork_epoll,
             "fork-epoll-client": fork_epoll_client, "exec-server": exec_server, "exec-client": exec_client,
             "burst-client": burst_client, "returning-client": returning_client, "leaving-client": leaving_client,
             "source-server": source_server, "sink-client": sink_client,
             "resume": resume}
    options = dict(a.split("=", 1) if "=" in a else (a, "1") for a in sys.argv[3:])
    roles[sys.argv[1]](sys.argv[2], options)


main()
