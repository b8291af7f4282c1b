#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shmipc-stat against a table with known rows.
set -eu
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh"

stat=$build/shmipc-stat
"${CC:-cc}" -std=gnu11 -D_GNU_SOURCE -I. -Icore/include -o "$work/fixture" \
	tests/tools/status_fixture.c "$build/libshmipc.a" -pthread

for arguments in --bogus '--pid x' '--pid 0' '--pid' '--watch 0' '--watch x' stray '--json stray'; do
	# shellcheck disable=SC2086
	check "usage: $arguments" one_line_usage_error "$stat" $arguments
done
check 'help' exits_with 0 "$stat" --help
check 'help says usage' grep -q '^Usage' "$work/out"
check 'version' exits_with 0 "$stat" --version
check 'version number' grep -Eq '^shmipc-stat [0-9]+\.[0-9]+\.[0-9]+$' "$work/out"
check 'a process without table' exits_with 0 "$stat" --pid $$
check 'nothing to show' grep -qx 'no connections' "$work/out"
check 'a process without table, JSON' exits_with 0 "$stat" --json --pid $$
check 'an empty array' grep -qx '\[\]' "$work/out"
check 'a full disk is an error' exits_with 1 bash -c "'$stat' >/dev/full"

coproc "$work/fixture"
fixture=$COPROC_PID
to_fixture=${COPROC[1]}
read -r ready <&"${COPROC[0]}"
check 'fixture' [ "$ready" = ready ]

check 'JSON' exits_with 0 "$stat" --json
cat >"$work/judge.py" <<'EOF'
import json, sys
pid, stale_too = int(sys.argv[2]), sys.argv[3] == "all"
rows = json.load(open(sys.argv[1]))
mine = {row["fd"]: row for row in rows if row["program"] == "fixture" or row["stale"] and row["endpoint"] == "tcp:gone:1"}
assert sorted(mine) == ([5, 6, 7, 8, 9] if stale_too else [5, 6, 7, 9]), sorted(mine)
assert mine[5]["pid"] == mine[6]["pid"] == mine[7]["pid"] == pid != mine[9]["pid"]
assert mine[5]["system_calls"] == "/lib/rust?.so" and mine[6]["system_calls"] == ""
assert mine[5]["state"] == "accelerated" and mine[5]["role"] == "server"
assert mine[5]["ring_tx"] == 12345678901234567 and mine[5]["spins_won"] == 42
assert mine[5]["family"] == "inet" and mine[5]["endpoint"] == "tcp:127.0.0.1:5201"
assert mine[6]["reason"] == "peer-plain" and mine[6]["endpoint"] == 'unix:/tmp/a"b\\c'
assert mine[7]["endpoint"] == "?[2J??" + 121 * "x", mine[7]["endpoint"]
assert mine[7]["state"] == "candidate" and mine[7]["reason"] == "young"
assert mine[9]["reason"] == "unknown" and mine[9]["endpoint"] == "tcp:[::1]:80"
assert not stale_too or mine[8]["stale"]
EOF
check 'rows' python3 "$work/judge.py" "$work/out" "$fixture" live
check 'JSON with stale rows' exits_with 0 "$stat" --json --all
check 'stale rows' python3 "$work/judge.py" "$work/out" "$fixture" all
check 'valid JSON' python3 -m json.tool "$work/out"

check 'for people' exits_with 0 "$stat" --pid "$fixture"
check 'a heading and three rows' [ "$(wc -l <"$work/out")" -eq 4 ]
check 'same width' [ "$(awk '{ print length }' "$work/out" | sort -u | wc -l)" -eq 1 ]
check 'state' grep -Eq ' server +accelerated:strict +tcp:127.0.0.1:5201 +12.3P ' "$work/out"
check 'reason' grep -Eq ' client +peer-plain ' "$work/out"
check 'no control characters' bash -c "! LC_ALL=C grep -q '[^ -~]' '$work/out'"
check 'watching' exits_with 124 timeout 0.5 "$stat" --watch 0.1 --pid "$fixture"
check 'again and again' [ "$(grep -c '^ *PID' "$work/out")" -ge 2 ]

exec {to_fixture}>&-
wait "$fixture"
check 'after the end' exits_with 0 "$stat" --all --pid "$fixture"
check 'nothing left' grep -qx 'no connections' "$work/out"
finish
