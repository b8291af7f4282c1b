# SPDX-License-Identifier: Apache-2.0
"""gRPC without generated code: the messages are bytes.

    grpc_calls.py server ADDRESS
    grpc_calls.py TEST ADDRESS COUNT
"""
import sys
import threading
import time
from concurrent import futures

import grpc

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
SIZES = [0, 1, 100, 1000, 16384, 65537, 1 << 20, 5 << 20]
PIECE = 50000


def pattern(size, seed):
    unit = bytes((i * 7 + seed) % 251 for i in range(251))
    return (unit * (size // 251 + 1))[:size]


# ---- server ----

def echo(request, context):
    return request


def total(requests, context):
    return b"%d" % sum(len(r) for r in requests)


def pieces(request, context):
    for i in range(int(request)):
        yield pattern(PIECE, i)


def echo_each(requests, context):
    yield from requests


def late(request, context):
    time.sleep(2)
    return request


def serve(address):
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Total": grpc.stream_unary_rpc_method_handler(total),
        "Pieces": grpc.unary_stream_rpc_method_handler(pieces),
        "Each": grpc.stream_stream_rpc_method_handler(echo_each),
        "Late": grpc.unary_unary_rpc_method_handler(late),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=OPTIONS)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("calls", handlers),))
    if not server.add_insecure_port(address):
        sys.exit("no port")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


# ---- tests ----

def expect(condition, what):
    if not condition:
        sys.exit("wrong: " + what)


def single(channel, count):
    call = channel.unary_unary("/calls/Echo")
    for i in range(count):
        message = pattern(SIZES[i % 5], i)
        expect(call(message, timeout=60) == message, "a reply")
    for size in SIZES:
        message = pattern(size, size)
        expect(call(message, timeout=60) == message, f"a reply of {size}")


def upload(channel, count):
    call = channel.stream_unary("/calls/Total")
    answer = call((pattern(PIECE, i) for i in range(count)), timeout=60)
    expect(int(answer) == count * PIECE, "the total")


def download(channel, count):
    call = channel.unary_stream("/calls/Pieces")
    number = 0
    for piece in call(b"%d" % count, timeout=60):
        expect(piece == pattern(PIECE, number), f"piece {number}")
        number += 1
    expect(number == count, "the number of pieces")


def both_ways(channel, count):
    call = channel.stream_stream("/calls/Each")
    number = 0
    for piece in call((pattern(100 + i, i) for i in range(count)), timeout=60):
        expect(piece == pattern(100 + number, number), f"piece {number}")
        number += 1
    expect(number == count, "the number of pieces")


def many_threads(channel, count):
    errors = []

    def run(seed):
        try:
            single(channel, count // 8)
        except BaseException as error:
            errors.append(f"thread {seed}: {error!r}")

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(not errors, "; ".join(errors[:3]))


def given_up(channel, count):
    late_call = channel.unary_unary("/calls/Late")
    try:
        late_call(b"x", timeout=0.3)
        expect(False, "no deadline")
    except grpc.RpcError as error:
        expect(error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, f"the code {error.code()}")
    stream = channel.unary_stream("/calls/Pieces")(b"100000", timeout=60)
    for _ in range(5):
        next(stream)
    stream.cancel()
    single(channel, 50)


TESTS = {"single": single, "upload": upload, "download": download, "both_ways": both_ways,
         "many_threads": many_threads, "given_up": given_up}


def main():
    name, address = sys.argv[1], sys.argv[2]
    if name == "server":
        serve(address)
        return
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
        TESTS[name](channel, int(sys.argv[3]))


main()
