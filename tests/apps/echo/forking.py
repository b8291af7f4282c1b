# SPDX-License-Identifier: Apache-2.0
"""The server of the echo program (lib/echo.sh) with a process for each connection: `server ADDRESS`
by socketserver, `pass ADDRESS` by two workers that get each connection from the process that
accepted it."""
import multiprocessing
import multiprocessing.reduction
import os
import signal
import socket
import socketserver
import sys


def split_address(text):
    kind, rest = text.split(":", 1)
    if kind == "unix":
        return socket.AF_UNIX, rest
    host, port = rest.rsplit(":", 1)
    return socket.AF_INET, (host, int(port))


def echo(sock):
    while block := sock.recv(65536):
        sock.sendall(block)


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        echo(self.request)


class Server(socketserver.ForkingTCPServer):
    allow_reuse_address = True


def serve(family, address):
    Server.address_family = family
    with Server(address, Echo) as server:
        print("ready", flush=True)
        server.serve_forever()


def work(pipe, family):
    try:
        while True:
            number = multiprocessing.reduction.recv_handle(pipe)
            with socket.socket(family, socket.SOCK_STREAM, fileno=number) as sock:
                echo(sock)
    except EOFError:
        pass


def pass_on(family, address):
    workers = []
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(16)
        for _ in range(2):
            ours, theirs = multiprocessing.Pipe()
            worker = multiprocessing.Process(target=work, args=(theirs, family), daemon=True)
            worker.start()
            theirs.close()
            workers.append((ours, worker.pid))
        print("ready", flush=True)
        turn = 0
        while True:
            sock, _ = listener.accept()
            pipe, pid = workers[turn % len(workers)]
            multiprocessing.reduction.send_handle(pipe, sock.fileno(), pid)
            sock.close()
            turn += 1


def main():
    parent = os.getpid()

    def end(_number, _frame):
        if os.getpid() == parent:
            sys.exit(0)
        os._exit(0)
    signal.signal(signal.SIGTERM, end)
    role, text = sys.argv[1:3]
    (serve if role == "server" else pass_on)(*split_address(text))


if __name__ == "__main__":
    main()
