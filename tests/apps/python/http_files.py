# SPDX-License-Identifier: Apache-2.0
"""http.server (with and without sendfile) asked by urllib and by a keep-alive http.client."""
import http.client
import http.server
import os
import socket
import socketserver
import tempfile
import urllib.request

import common

SIZES = (1, 500, 4096, 65537, 3000000)
HOT_ROUNDS = 300


def content(size):
    return common.data(size, size)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    directory = None

    def address_string(self):
        return "local"

    def log_message(self, *_args):
        pass

    def do_GET(self):
        with open(os.path.join(self.directory, os.path.basename(self.path)), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            if self.path.startswith("/sendfile/"):
                self.wfile.flush()
                self.connection.sendfile(file)
            else:
                self.wfile.write(file.read())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = common.digest(body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def server(text):
    family, address = common.split_address(text)
    cls = UnixServer if family == socket.AF_UNIX else http.server.ThreadingHTTPServer
    with tempfile.TemporaryDirectory() as Handler.directory:
        for size in SIZES:
            with open(os.path.join(Handler.directory, str(size)), "wb") as file:
                file.write(content(size))
        with cls(address, Handler) as srv:
            common.end_on_sigterm()
            common.ready()
            srv.serve_forever()


class Connection(http.client.HTTPConnection):
    def __init__(self, text):
        super().__init__("localhost")
        self.text = text

    def connect(self):
        self.sock = common.connect(self.text)


def client(text):
    family, address = common.split_address(text)
    if family == socket.AF_INET:
        for size in SIZES:
            with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/{size}") as answer:
                common.need(answer.read() == content(size), f"urllib: {size} bytes differ")
    wanted = {size: content(size) for size in SIZES}
    connection = Connection(text)
    for turn in range(HOT_ROUNDS):
        size = SIZES[-1] if turn % 100 == 99 else SIZES[turn % (len(SIZES) - 1)]
        connection.request("GET", f"{'/sendfile' if turn % 3 == 1 else ''}/{size}")
        common.need(connection.getresponse().read() == wanted[size], f"GET {turn}: bytes differ")
        if turn % 10 == 0:
            connection.request("POST", "/", wanted[size])
            common.need(connection.getresponse().read() == common.digest(wanted[size]),
                        f"POST {turn}: digest differs")
    connection.close()


def main():
    args = common.arguments()
    if args.role == "server":
        server(args.address)
    else:
        client(args.address)


main()
