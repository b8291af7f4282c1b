#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shmipc-run with an empty library in place of the shim: what the command is given, and what comes back.
set -eu
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh"

unset LD_PRELOAD SHMIPC_ENDPOINTS SHMIPC_LOG SHMIPC_SPIN_US
export TMPDIR=$work/tmp
mkdir -p "$work/bin" "$work/lib" "$work/tmp" "$work/alone/bin" "$work/beside" "$work/a b"
cp "$build/shmipc-run" "$work/bin/"
for place in alone/bin beside 'a b'; do
	cp "$build/shmipc-run" "$work/$place/"
done
"${CC:-cc}" -shared -fPIC -o "$work/lib/libshmipc_shim.so" -x c /dev/null
cp "$work/lib/libshmipc_shim.so" "$work/beside/"
cp "$work/lib/libshmipc_shim.so" "$work/a b/"
run=$work/bin/shmipc-run
shim=$work/lib/libshmipc_shim.so

says() # REGEX: the last command's standard output has such a line
{
	grep -Eqx -- "$1" "$work/out" || { cat "$work/out"; return 1; }
}

complains() # REGEX: likewise on standard error
{
	grep -Eqx -- "$1" "$work/err" || { cat "$work/err"; return 1; }
}

for arguments in '' --bogus '--endpoints' '--endpoints http:80 true' '--endpoints tcp:*, true' \
	'--log loud true' '--log info: true' '--spin-us -1 true' '--spin-us 5x true' '--stats'; do
	# shellcheck disable=SC2086
	check "usage: $arguments" one_line_usage_error "$run" $arguments
done
check 'help' exits_with 0 "$run" --help
check 'help says usage' says 'Usage: .*'
check 'version' exits_with 0 "$run" --version
check 'version number' says 'shmipc-run [0-9]+\.[0-9]+\.[0-9]+'

check 'defaults' exits_with 0 "$run" env
check 'shim of ../lib' says "LD_PRELOAD=$shim"
check 'default endpoints' says 'SHMIPC_ENDPOINTS=tcp:\*,unix:\*'
check 'no log' bash -c "! grep -q SHMIPC_LOG '$work/out'"
check 'shim beside' exits_with 0 "$work/beside/shmipc-run" env
check 'shim beside, path' says "LD_PRELOAD=$work/beside/libshmipc_shim.so"
check 'other preloads' exits_with 0 env LD_PRELOAD=/a.so:/b.so "$run" env
check 'other preloads stay, behind' says "LD_PRELOAD=$shim:/a.so:/b.so"
check 'inherited' exits_with 0 env SHMIPC_ENDPOINTS=tcp:*:80 SHMIPC_LOG=debug "$run" env
check 'inherited endpoints' says 'SHMIPC_ENDPOINTS=tcp:\*:80'
check 'inherited log' says 'SHMIPC_LOG=debug'
check 'options win' exits_with 0 env SHMIPC_ENDPOINTS=tcp:*:80 "$run" --endpoints '!tcp:*:1,unix:@x' \
	--log error:/x --spin-us 7 -- env
check 'endpoints' says 'SHMIPC_ENDPOINTS=!tcp:\*:1,unix:@x'
check 'log' says 'SHMIPC_LOG=error:/x'
check 'spin' says 'SHMIPC_SPIN_US=7'
check 'options of the command' exits_with 0 "$run" echo --stats --help
check 'are left alone' says '--stats --help'

check 'no shim' exits_with 125 "$work/alone/bin/shmipc-run" true
check 'path that cannot be preloaded' exits_with 125 "$work/a b/shmipc-run" true
for stats in '' --stats; do
	# shellcheck disable=SC2086
	{
		check "exit status $stats" exits_with 7 "$run" $stats sh -c 'exit 7'
		check "not found $stats" exits_with 127 "$run" $stats no-such-command-anywhere
		check "not executable $stats" exits_with 126 "$run" $stats /etc/passwd
	}
done

# The command itself plays the shim that logs.
cat >"$work/log" <<'EOF'
shmipc: pid=9 fd=4 endpoint=tcp:127.0.0.1:80 role=client event=accelerated
shmipc: pid=9 fd=4 endpoint=tcp:127.0.0.1:80 role=client event=closed state=accelerated ring_tx=100 ring_rx=20 kernel_tx=3 kernel_rx=4 tokens=5 sleeps=6 spins_won=7 spins_lost=8
shmipc: pid=9 fd=4 endpoint=tcp:127.0.0.1:80 role=client event=closed state=candidate ring_tx=0 ring_rx=0 kernel_tx=30 kernel_rx=40 tokens=0 sleeps=0 spins_won=0 spins_lost=0
shmipc: pid=9 fd=5 endpoint=unix:/x role=server event=plain reason=peer-plain
shmipc: pid=9 fd=5 endpoint=unix:/x role=server event=closed state=plain ring_tx=0 ring_rx=0 kernel_tx=1 kernel_rx=1 tokens=0 sleeps=0 spins_won=0 spins_lost=0
garbage event=closed
EOF
# shellcheck disable=SC2016
play=(sh -c 'cat "$1" >>"${SHMIPC_LOG#*:}"; exit 3' play "$work/log")
check 'statistics' exits_with 3 "$run" --stats "${play[@]}"
check 'client line' complains 'shmipc-run: endpoint=tcp:127.0.0.1:80 role=client connections=2 accelerated=1 ring_tx=100 ring_rx=20 kernel_tx=33 kernel_rx=44 tokens=5 sleeps=6 spins_won=7 spins_lost=8'
check 'server line' complains 'shmipc-run: endpoint=unix:/x role=server connections=1 accelerated=0 .* plain=peer-plain:1'
check 'nothing else' [ "$(wc -l <"$work/err")" -eq 2 ]
check 'own log too' exits_with 3 "$run" --stats --log "info:$work/copy" "${play[@]}"
check 'own log is complete' cmp "$work/log" "$work/copy"
check 'own log on standard error' exits_with 3 "$run" --stats --log debug "${play[@]}"
check 'eight lines' [ "$(wc -l <"$work/err")" -eq 8 ]
check 'nothing happened' exits_with 0 "$run" --stats true
check 'says so' complains 'shmipc-run: no connections'

forwards() # SIGNAL STATUS
{
	local status=0
	# shellcheck disable=SC2016
	"$run" --stats bash -c 'trap "exit 42" USR1; : >"$1"; while :; do sleep 0.05; done' \
		x "$work/started" 2>/dev/null &
	for ((i = 0; i < 100; i++)); do
		[ -e "$work/started" ] && break
		sleep 0.05
	done
	rm "$work/started"
	kill "-$1" $!
	wait $! || status=$?
	[ "$status" -eq "$2" ] || { echo "status $status"; return 1; }
}
check 'TERM reaches the command' forwards TERM 143
check 'HUP reaches the command' forwards HUP 129
check 'USR1 reaches the command' forwards USR1 42
# shellcheck disable=SC2016
check 'another user can log' exits_with 0 "$run" --stats sh -c 'stat -c %a "${SHMIPC_LOG#*:}" | grep -qx 622'
# shellcheck disable=SC2016
check 'a process that stays' exits_with 0 "$run" --stats sh -c '{ sleep 0.3; cat "$1" >>"${SHMIPC_LOG#*:}"; } 2>/dev/null &' x "$work/log"
sleep 0.5
check 'killed' exits_with 137 "$run" --stats sh -c 'kill -9 $$'
# shellcheck disable=SC2016
check 'SIGCHLD ignored by the parent' exits_with 5 bash -c 'trap "" CHLD; exec timeout 5 "$1" --stats sh -c "exit 5"' x "$run"
check 'no temporary file stays' [ -z "$(ls -A "$work/tmp")" ]
finish
