# SPDX-License-Identifier: Apache-2.0
"""multiprocessing.connection: pickled objects and bytes over a Listener with authentication."""
import socket
import threading
from multiprocessing.connection import Client, Listener, wait

import common

AUTHKEY = b"a key for the test"
ROUNDS = 300
CONNECTIONS = 4


def serve(connection):
    with connection:
        while True:
            try:
                kind, value = connection.recv()
            except EOFError:
                return
            if kind == "bytes":
                connection.send_bytes(connection.recv_bytes()[::-1])
            else:
                connection.send((kind, value, sum(value)))


def server(text):
    family, address = common.split_address(text)
    name = "AF_UNIX" if family == socket.AF_UNIX else "AF_INET"
    common.end_on_sigterm()
    with Listener(address, name, backlog=32, authkey=AUTHKEY) as listener:
        common.ready()
        while True:
            connection = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


def client(text):
    _, address = common.split_address(text)
    connections = [Client(address, authkey=AUTHKEY) for _ in range(CONNECTIONS)]
    for turn in range(ROUNDS):
        values = {}
        for number, connection in enumerate(connections):
            values[number] = list(range(turn % 50 + number))
            connection.send(("sum", values[number]))
        left = set(range(CONNECTIONS))
        while left:
            ready = wait([connections[n] for n in left], common.LIMIT_S)
            common.need(ready, f"round {turn}: nothing came for {common.LIMIT_S} s")
            for connection in ready:
                number = connections.index(connection)
                answer = connection.recv()
                common.need(answer == ("sum", values[number], sum(values[number])),
                            f"round {turn}: wrong answer")
                left.discard(number)
        if turn % 50 == 49:
            body = common.data(turn, 700000)
            connections[0].send(("bytes", None))
            connections[0].send_bytes(body)
            common.need(connections[0].recv_bytes() == body[::-1], f"round {turn}: bytes differ")
    for connection in connections:
        connection.close()


def main():
    args = common.arguments()
    if args.role == "server":
        server(args.address)
    else:
        client(args.address)


main()
