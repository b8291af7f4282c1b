# SPDX-License-Identifier: Apache-2.0
"""The echo server and the clients of tools/load as parts of a row."""

from benchapps.servers import Server


def serve(place):
    return [Server(place, [place.tools.load, "serve", place.tcp("tcp")], place.tcp("tcp"))]


def ping(connections, active=None, bytes_each=64, warm=64):
    """Only `active` of the connections are used while it is measured, by default all."""
    def argvs(place, seconds):
        return [[place.tools.load, "ping", place.tcp("tcp"), "--connections", str(connections),
                 "--active", str(active or connections), "--bytes", str(bytes_each),
                 "--warm", str(warm), "--seconds", str(seconds), "--hold"]]
    return argvs
