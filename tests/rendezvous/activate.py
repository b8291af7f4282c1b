#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Socket activation: listen as descriptor 3, then become COMMAND, which is told by LISTEN_FDS."""
import os
import socket
import sys

listener = socket.create_server(("127.0.0.1", 0), backlog=100)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ["LISTEN_FDS"], os.environ["LISTEN_PID"] = "1", str(os.getpid())
os.execvp(sys.argv[1], sys.argv[1:])
