# SPDX-License-Identifier: Apache-2.0
"""cpython_tests.py ARGUMENTS: `python -m test` whose limits of time suit a slow machine."""
import os

from test import support
from test.libregrtest import main

if __name__ == "__main__":
    support.LOOPBACK_TIMEOUT = support.SHORT_TIMEOUT = float(os.environ["APP_LIMIT_S"])
    main()
