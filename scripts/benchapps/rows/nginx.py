# SPDX-License-Identifier: Apache-2.0
# packages: nginx-light:nginx wrk
"""wrk to nginx (one worker, sendfile; keep-alive, or a connection for each request), and through an
nginx to another one behind it."""

import os

from benchapps import wrk
from benchapps.row import Row
from benchapps.servers import Server

SIZES = {"1k": 1024, "100k": 100 * 1024, "1m": 1 << 20, "10m": 10 << 20}
FRESH = ("Connection: close",)

CONFIG = """
%(user)s
daemon off;
worker_processes 1;
pid %(directory)s/%(name)s.pid;
error_log %(directory)s/%(name)s.log warn;
events { worker_connections 1024; }
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 65;
    keepalive_requests 1000000000;
    client_body_temp_path %(directory)s/%(name)s.body;
    proxy_temp_path %(directory)s/%(name)s.proxy;
    fastcgi_temp_path %(directory)s/%(name)s.fastcgi;
    uwsgi_temp_path %(directory)s/%(name)s.uwsgi;
    scgi_temp_path %(directory)s/%(name)s.scgi;
    %(body)s
}
"""

FILES = "server { listen %s; root %s; }"

PROXY = """
    upstream back { server unix:%s; keepalive 64; keepalive_requests 1000000000; }
    server {
        listen %s;
        location / {
            proxy_pass http://back;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
    }
"""


def start(place, name, listening, body):
    """The worker keeps the user of the master: the shim does not join different users by default."""
    path = os.path.join(place.directory, name + ".conf")
    with open(path, "w") as config:
        config.write(CONFIG % {"user": "user root;" if os.getuid() == 0 else "", "name": name,
                               "directory": place.directory, "body": body})
    return Server(place, ["nginx", "-p", place.directory, "-c", path,
                          "-e", os.path.join(place.directory, name + ".log")], listening)


def write_files(place):
    for name, size in SIZES.items():
        with open(os.path.join(place.directory, name), "wb") as body:
            body.write(os.urandom(size))


def serve_files(place):
    write_files(place)
    listen = place.tcp("front")[len("tcp:"):]
    return [start(place, "front", place.tcp("front"), FILES % (listen, place.directory))]


def serve_proxy(place):
    write_files(place)
    front, back = place.tcp("front"), place.unix("back")
    return [start(place, "back", back, FILES % (back, place.directory)),
            start(place, "front", front, PROXY % (place.path("back"), front[len("tcp:"):]))]


def load(name, connections, headers):
    def argv(place, seconds):
        return wrk.argv("http://127.0.0.1:%s/%s" % (place.port("front"), name), connections, seconds,
                        headers)
    return argv


def row(name, title, size, connections, bar, aim, serve, headers=(), **more):
    return Row(name=name, title=title, unit="request", bar=bar, aim=aim, serve=serve,
               load=load(size, connections, headers), read=wrk.read(SIZES[size]),
               programs=("nginx", "wrk"), least_seconds=1, **more)


def fresh(size, title, connections):
    """What the upgrade of a connection costs, and what is left of it to earn it: where that is too
    little it must not be accelerated, and where it is enough a look finds many at their beginning."""
    return row("nginx.fresh." + size, title, size, connections, 0.95, 1, serve_files, FRESH,
               accelerated=False)


def rows():
    yield row("nginx.1k", "wrk -c 50 to nginx, 1 KB", "1k", 50, 1.5, 3, serve_files)
    yield row("nginx.100k", "wrk -c 16 to nginx, 100 KB", "100k", 16, 2, 4, serve_files)
    yield row("nginx.10m", "wrk -c 4 to nginx, 10 MB", "10m", 4, 2, 4, serve_files)
    yield fresh("100k", "wrk -c 16, a connection for each 100 KB", 16)
    yield fresh("1m", "wrk -c 8, a connection for each 1 MB", 8)
    yield fresh("10m", "wrk -c 4, a connection for each 10 MB", 4)
    yield row("nginx.proxy", "wrk -c 50, nginx, upstream over Unix, 1 KB", "1k", 50, 1.5, 3, serve_proxy)
