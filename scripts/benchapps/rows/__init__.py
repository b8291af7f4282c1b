# SPDX-License-Identifier: Apache-2.0
"""The rows, a file for each program; in its head each names the Debian packages that it needs."""

import importlib
import os

ORDER = ("redis", "memcached", "nginx", "postgres", "sockperf", "qperf", "python_asyncio", "node_http",
         "java_nio", "idle", "memory", "short", "pairs")


def every():
    """(file, row) in the order of the table."""
    for name in ORDER:
        module = importlib.import_module("benchapps.rows." + name)
        for row in module.rows():
            yield os.path.abspath(module.__file__), row
