#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shmipc-bench --library: every row is measured at both ends, its payload checked, in every format.
set -eu
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/../tools/lib.sh"

bench=$build/shmipc-bench
quick=(--library --rounds 1 --seconds 0.01)

check 'CSV' exits_with 0 "$bench" "${quick[@]}" --format csv
cat >"$work/judge.py" <<'EOF'
import csv, sys
rows = list(csv.DictReader(open(sys.argv[1])))
names = [(row["row"], row["size_bytes"]) for row in rows]
assert len(rows) == len(set(names)) == 21, names
for row in rows:
    assert float(row["library"]) > 0 and float(row["kernel"]) > 0, row
    assert float(row["library_vs_kernel"]) > 0 and row["shim"] == "" == row["raw"], row
    assert 0 <= float(row["wakeups_per_message"]) < 1.5, row
    if row["row"] == "library.pingpong.spin":
        assert float(row["library_vs_alt"]) > 0, row
EOF
check 'rows' python3 "$work/judge.py" "$work/out"
check 'one row by name, JSON' exits_with 0 "$bench" --only library.streams --rounds 1 --seconds 0.01 --format json
check 'valid JSON' python3 -c '
import json, sys
row, = json.load(open(sys.argv[1]))["rows"]
assert row["row"] == "library.streams" and row["library"]["value"] > 0 and "shim" not in row, row
assert row["wakeups_per_message"] >= 0 and row["library_vs_kernel"] > 0, row' "$work/out"
check 'text' exits_with 0 "$bench" "${quick[@]}" --sizes 4K
check 'a heading for each row' [ "$(grep -c 'wake-ups/message$' "$work/out")" -eq 3 ]
check 'the shim is not among them' exits_with 2 "$bench" --library --only 'library.nothing'
finish
