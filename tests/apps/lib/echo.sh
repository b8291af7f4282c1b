# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# One program, many languages: tests/apps/echo/ has it in each.  As `server ADDRESS` it says "ready",
# then sends back whatever comes, until each client's end of file, and ends by SIGTERM.  As `client
# ADDRESS [BYTES]` it asks two thousand times and waits for each answer, then sends BYTES while it
# reads, shuts down its half and reads to the end; it fails unless every byte was right.  In Python
# also `client ADDRESS BYTES late`: it shuts down when all has come back.
# A script sets these two commands; ADDRESS is tcp:HOST:PORT or unix:PATH.

SERVER_COMMAND=()
CLIENT_COMMAND=()
ECHO_BYTES=30000000
[ "$QUICK" -eq 0 ] || ECHO_BYTES=4000000

echo_client() {
	client 40 "${CLIENT_COMMAND[@]}" client "$1" "$ECHO_BYTES"
}

echo_quiet() {
	! grep -v '^ready$' "$1"
}

# echo_run NAME ADDRESS: server, client, and their end; the caller judges the logs.
echo_run() {
	local name=$1 address=$2 output=$DIR/${1// /-}.out

	new_logs "${name// /-}"
	set_endpoints "$address"
	start_server "$output" "${SERVER_COMMAND[@]}" server "$address"
	if ! wait_until 20 grep -q ready "$output"; then
		not_ok "$name: server is not ready"
		tail -n 8 "$output" | sed 's/^/#   /'
		stop_server "$name"
		return 0
	fi
	check "$name" echo_client "$address"
	stop_server "$name"
	check "$name: server without complaint" echo_quiet "$output"
}

# echo_both NAME [FAMILY...]: over TCP and Unix, or what is named; must be accelerated.
echo_both() {
	local name=$1 family address

	shift
	for family in "$@"; do
		case $family in
		TCP) address=tcp:127.0.0.1:$(free_port) ;;
		Unix) address=unix:$DIR/${name// /-}.s ;;
		esac
		echo_run "$name $family" "$address"
		expect_pairing "$name $family"
	done
}

# echo_unseen NAME: at least one end's calls reach no shim; no byte may move by shared memory, and a
# log that there is must say that the connection stayed plain.
echo_unseen() {
	local family address log

	for family in TCP Unix; do
		case $family in
		TCP) address=tcp:127.0.0.1:$(free_port) ;;
		Unix) address=unix:$DIR/${1// /-}.s ;;
		esac
		echo_run "$1 $family" "$address"
		for log in "$SERVER_LOG" "$CLIENT_LOG"; do
			[ -e "$log" ] || continue
			check "$1 $family: plain in $(basename "$log")" expect_plain "$log"
		done
	done
}
