#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The library's examples: each pair runs, over Unix and TCP, and says what it should; the commands of the
# README run as they stand there; the hot restart loses nothing.
set -eu
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/../tools/lib.sh"

examples=$build/examples
server=
trap '[ -z "$server" ] || kill -9 "$server" 2>/dev/null; rm -rf "$work"' EXIT

# serve NAME ADDRESS: starts a server in the background; its output is in $work/server
serve() {
	: >"$work/server"
	"$examples/$1" "$2" >"$work/server" 2>&1 &
	server=$!
}

# Its name is there before it listens.
listens() # on a Unix address
{
	grep -Eq "^[^ ]+ [^ ]+ [^ ]+ 00010000 .* ${1#unix:}\$" /proc/net/unix
}

# drive NAME ADDRESS [ARGUMENT]...: the client, once the server listens
drive() {
	local status=0 name=$1
	shift
	for ((i = 0; i < 250; i++)); do
		[[ $1 != unix:* ]] || listens "$1" && break
		sleep 0.02
	done
	# shellcheck disable=SC2016 # it keeps its process number over the exec
	timeout 60 bash -c 'echo $$ >"$0"; exec "$@"' "$work/client" "$examples/$name" "$@" \
		>"$work/out" 2>&1 || status=$?
	cat "$work/out"
	[ "$status" -eq 0 ] || { echo "status $status"; return 1; }
}

# ends STATUS [SIGNAL]: the server does
ends() {
	local status=0
	[ $# -lt 2 ] || kill "-$2" "$server"
	timeout 20 tail --pid="$server" -f /dev/null || kill -9 "$server"
	wait "$server" || status=$?
	server=
	cat "$work/server"
	[ "$status" -eq "$1" ] || { echo "status $status, not $1"; return 1; }
}

said() # FILE PATTERN
{
	grep -Eqx "$2" "$work/$1" || { echo "not said: $2"; cat "$work/$1"; return 1; }
}

nothing_stays() # of the memory of the client that has just ended
{
	! compgen -G "/dev/shm/shmipc_$(<"$work/client")_*"
}

address=unix:$work/socket

serve hello_server "$address"
check 'hello, client' drive hello_client "$address"
check 'hello, client: answer' said out 'the server says: Hello, client!.*'
check 'hello, server' ends 0
check 'hello, server: greeting' said server 'the client says: Hello, server!.*'
check 'hello: no memory stays' nothing_stays

serve best_server "$address"
check 'best practice, client' drive best_client "$address" 1000
check 'best practice, client: sums' said out '1000 requests, every sum right'
check 'best practice, server' ends 0
check 'best practice, server: count' said server '1000 requests served'

serve sync_server "$address"
check 'synchronous, client' drive sync_client "$address" 4 300
check 'synchronous, client: answers' said out '1200 requests, every answer right'
check 'synchronous, another client' drive sync_client "$address" 1 10
check 'synchronous, server' ends 0 TERM
check 'synchronous: no memory stays' nothing_stays

serve sync_server tcp:127.0.0.1:0
for ((i = 0; i < 250; i++)); do
	grep -q listening "$work/server" && break
	sleep 0.02
done
check 'over TCP' drive sync_client "$(sed -n 's/^listening on //p' "$work/server")" 2 100
check 'over TCP: server' ends 0 INT

serve async_server "$address"
check 'asynchronous, client' drive async_client "$address" 16 200
check 'asynchronous, client: frames' said out '16 streams, 3200 frames, all came back right'
check 'asynchronous, many streams' drive async_client "$address" 1000 3
check 'asynchronous, server' ends 0 TERM
check 'asynchronous, server: frames' said server '6200 frames echoed'
check 'asynchronous: no memory stays' nothing_stays

restart() {
	BUILD=$build timeout 60 scripts/demo-restart 2.4 >"$work/out" 2>&1 || { cat "$work/out"; return 1; }
}
check 'hot restart' restart
check 'hot restart: nothing lost' said out '[1-9][0-9]+ requests, 0 lost, [23] servers'
check 'hot restart: the first server let its streams end' \
	[ "$(grep -c 'all clients moved, 0 streams left' "$work/out")" -eq 2 ]

# The README's commands, as they stand there.
sed -n '/^build\/examples/,/^```/p' README.md | grep -v -e '^```' -e shmipc-bench |
	sed "s,build/,$build/,; s,/tmp/,$work/,g" >"$work/commands"
check 'README: there are commands' grep -q hello_client "$work/commands"
check 'README: its commands run' exits_with 0 timeout 60 bash -eu "$work/commands"
check 'README: they say something' grep -q 'the server says: Hello, client!' "$work/out"

for program in hello_client hello_server best_client best_server sync_client sync_server \
	async_client async_server restart_client restart_server; do
	check "$program: usage" one_line_usage_error "$examples/$program"
done
check 'nobody listens' exits_with 1 "$examples/hello_client" "unix:$work/nobody"
check 'says so' grep -q '^connect: No such file or directory$' "$work/err"
finish
