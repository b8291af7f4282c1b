#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The cases, in files by subject."""
import sys

import harness
import cases_addresses  # noqa: F401
import cases_costs  # noqa: F401
import cases_crowds  # noqa: F401
import cases_limits  # noqa: F401
import cases_peers  # noqa: F401
import cases_processes  # noqa: F401
import cases_worlds  # noqa: F401

harness.main(sys.argv[1:])
