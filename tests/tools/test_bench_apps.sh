#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# bench-apps: what is read from the programs' output, and which verdict follows from which figures.
set -eu
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh"

export PYTHONDONTWRITEBYTECODE=1
for part in Readers Verdicts Seen Patterns; do
	check "bench-apps: $part" /usr/bin/python3 tests/tools/bench_apps.py "$part"
done
finish
