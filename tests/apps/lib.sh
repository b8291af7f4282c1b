# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034
# (SC2034: variables such as QUICK are read by the scripts.)
# Common part of the application tests.  A script sources this file, calls app_begin NAME "$@",
# then for_pairings FUNCTION, then app_end.  A pairing is SERVER/CLIENT, each of them plain or shim.
# In its head a script says what it needs and whether `make check` runs it, in lines of this form:
#     # packages: PACKAGE:PROBE ...    (Debian's names; the probe is a command or the path of a file)
#     # set: quick

APP_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
APP_SHIM=${SHMIPC_SHIM:-$APP_ROOT/build/libshmipc_shim.so}
APP_NAME=
APP_TMP=
APP_PASSED=0
APP_FAILED=0
APP_GROUPS=()
APP_SHM_BEFORE=
APP_PAIRINGS="plain/plain shim/shim shim/plain plain/shim"
QUICK=0
# A slow or busy machine must not make a test fail: limits of time are for what hangs.  They are
# written as a quiet machine would have them, and times this.  APP_LIMIT_S is for one answer of a
# program, in its own configuration.
APP_PATIENCE=${SHMIPC_APP_PATIENCE:-5}
export APP_LIMIT_S=$((20 * APP_PATIENCE))
PAIRING=
SERVER_SIDE=plain
CLIENT_SIDE=plain
SERVER_LOG=
CLIENT_LOG=
SERVER_PID=
DIR=
ENDPOINTS=
AS_USER=()
APP_USER=
# "${NOTE_PID[@]}" FILE COMMAND...: becomes the command, whose process id is then in the file.
# shellcheck disable=SC2016 # for that shell
NOTE_PID=(env --default-signal=INT sh -c 'echo $$ >"$0"; exec "$@"')

app_usage() {
	printf 'usage: %s [--quick] [--pairing SERVER/CLIENT]\n' "$(basename "$0")"
	printf 'SERVER and CLIENT are plain or shim; SHMIPC_KEEP=1 keeps the working directory;\n'
	printf 'SHMIPC_APP_PATIENCE=N (5) multiplies every limit of time.\n'
}

app_parse() {
	while [ $# -gt 0 ]; do
		case $1 in
		--quick) QUICK=1 ;;
		--pairing)
			[ $# -ge 2 ] || { app_usage >&2; exit 2; }
			APP_PAIRINGS=$2
			shift
			;;
		--help) app_usage; exit 0 ;;
		*) app_usage >&2; exit 2 ;;
		esac
		shift
	done
}

# The whole script runs under timeout(1), which signals this process group: the trap cleans up.
# Above both, supervise.py inherits what the script leaves behind.
app_begin() {
	APP_NAME=$1
	shift
	app_parse "$@"
	if [ -z "${SHMIPC_APP_DEADLINE:-}" ]; then
		app_packages
		export SHMIPC_APP_DEADLINE=$((${APP_SECONDS:-120} * APP_PATIENCE))
		exec /usr/bin/python3 "$APP_ROOT/tests/apps/lib/supervise.py" \
			timeout -k 60 "$SHMIPC_APP_DEADLINE" "$0" "$@"
	fi
	unset LD_PRELOAD SHMIPC_LOG SHMIPC_ENDPOINTS SHMIPC_DISABLE
	APP_TMP=$(mktemp -d "${TMPDIR:-/tmp}/shmipc-app-$APP_NAME.XXXXXX")
	APP_SHM_BEFORE=$(shm_files)
	trap app_cleanup EXIT
	trap 'not_ok "deadline of $SHMIPC_APP_DEADLINE s passed"; app_end' TERM INT
}

app_packages() {
	if ! "$APP_ROOT/scripts/setup" for "$0"; then
		not_ok "packages are missing"
		printf '%d passed, %d failed\n' "$APP_PASSED" "$APP_FAILED"
		exit 1
	fi
}

app_cleanup() {
	local pgid

	trap - EXIT TERM INT
	for pgid in "${APP_GROUPS[@]}"; do
		kill -KILL -- "-$pgid" 2>/dev/null || true
	done
	if [ -n "${SHMIPC_KEEP:-}" ]; then
		printf '# kept %s\n' "$APP_TMP"
	else
		rm -rf "$APP_TMP"
	fi
}

app_end() {
	trap - TERM INT
	eventually 2 no_orphans || not_ok "processes left behind: $(orphans | tr '\n' ' ')"
	eventually 2 shm_as_before || not_ok "files left in /dev/shm: $(new_shm_files | tr '\n' ' ')"
	printf '%d passed, %d failed\n' "$APP_PASSED" "$APP_FAILED"
	[ "$APP_FAILED" -eq 0 ] && exit 0
	exit 1
}

# supervise.py gives the script a /dev/shm of its own where it may, and says so.  Elsewhere other
# programs make files there too: those of ours that nobody maps have been forgotten.
shm_files() {
	if [ -n "${SHMIPC_APP_OWN_SHM:-}" ]; then
		find /dev/shm -mindepth 1 | sort
	else
		find /dev/shm -user "$(id -un)" -name '*shmipc*' 2>/dev/null | sort |
			grep -vxFf <(cat /proc/[0-9]*/maps 2>/dev/null | grep -o '/dev/shm/.*' | sort -u) || true
	fi
}

new_shm_files() {
	comm -13 <(printf '%s\n' "$APP_SHM_BEFORE") <(shm_files)
}

shm_as_before() {
	[ -z "$(new_shm_files)" ]
}

ok() {
	APP_PASSED=$((APP_PASSED + 1))
	printf 'ok - %s%s\n' "${PAIRING:+$PAIRING }" "$*"
}

not_ok() {
	APP_FAILED=$((APP_FAILED + 1))
	printf 'not ok - %s%s\n' "${PAIRING:+$PAIRING }" "$*"
}

# check NAME COMMAND...: one line; what a failing command wrote is shown behind '#'.
check() {
	local name=$1 rc=0

	shift
	# In a subshell: the deadline must find this shell with its own standard output.
	("$@") >"$APP_TMP/check.out" 2>&1 || rc=$?
	if [ "$rc" -eq 0 ]; then
		ok "$name$(sed -n 's/^info: / (/p' "$APP_TMP/check.out" | head -n 1 | sed '/./s/$/)/')"
	else
		not_ok "$name (status $rc)"
		tail -n 12 "$APP_TMP/check.out" | tr -d '\000' | cut -c 1-240 | sed 's/^/#   /'
	fi
	return 0
}

# Daemons leave their session and their parent: what still lives is now a child of supervise.py,
# beside timeout(1), this script's parent.
orphans() {
	pgrep -l -P "$SHMIPC_APP_SUPERVISOR" | grep -v "^$PPID "
}

no_orphans() {
	! orphans
}

# as_user NAME: both sides run as this system user, who owns the pairings' directories.  Who is not
# root remains who he is.
as_user() {
	[ "$(id -u)" -eq 0 ] || return 0
	APP_USER=$1
	AS_USER=(setpriv "--reuid=$1" "--regid=$(id -gn "$1")" --init-groups --)
	chmod 755 "$APP_TMP"
}

# Runs FUNCTION once per pairing, each in a directory and with log files of its own.
for_pairings() {
	local pairing

	for pairing in $APP_PAIRINGS; do
		PAIRING=$pairing
		SERVER_SIDE=${pairing%/*}
		CLIENT_SIDE=${pairing#*/}
		DIR=$APP_TMP/$SERVER_SIDE-$CLIENT_SIDE
		mkdir -p "$DIR"
		[ -z "$APP_USER" ] || chown "$APP_USER" "$DIR"
		new_logs all
		if [ "$pairing" != plain/plain ] && [ ! -r "$APP_SHIM" ]; then
			not_ok "the shim is not built: $APP_SHIM"
			continue
		fi
		"$1"
	done
	PAIRING=
}

set_endpoints() {
	ENDPOINTS=$1
}

new_logs() {
	SERVER_LOG=$DIR/$1.server.log
	CLIENT_LOG=$DIR/$1.client.log
}

free_port() {
	free_ports 1
}

# free_ports COUNT: the first of so many ports in a row that nobody has.  Below the range that the
# kernel gives to connecting sockets, so that none of those takes it; each script begins elsewhere and
# goes upwards, and so is never given the same port twice.
free_ports() {
	/usr/bin/python3 - "$APP_TMP/port" "$$" "$1" <<-'PY'
		import socket, sys
		path, pid, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
		FIRST, LAST = 12000, 29900

		def is_free(port):
		    with socket.socket() as s:
		        try:
		            s.bind(("127.0.0.1", port))
		        except OSError:
		            return False
		    return True

		try:
		    port = int(open(path).read())
		except FileNotFoundError:
		    port = FIRST + pid * 211 % (LAST - FIRST)
		while not all(is_free(port + i) for i in range(count)):
		    port = port + 1 if port < LAST else FIRST
		with open(path, "w") as file:
		    file.write(str(port + count if port + count < LAST else FIRST))
		print(port)
	PY
}

# as_side plain|shim LOG COMMAND...: replaces this (sub)shell by the command.
as_side() {
	local side=$1 log=$2

	shift 2
	if [ "$side" = shim ]; then
		exec "${AS_USER[@]}" env LD_PRELOAD="$APP_SHIM" SHMIPC_ENDPOINTS="$ENDPOINTS" \
			SHMIPC_LOG="info:$log" "$@"
	fi
	exec "${AS_USER[@]}" "$@"
}

# client SECONDS COMMAND...: on the client's side of the pairing, stdin and stdout untouched.
client() {
	local limit_s=$(($1 * APP_PATIENCE))

	shift
	(
		if [ "$CLIENT_SIDE" = shim ]; then
			exec timeout -k 2 "$limit_s" "${AS_USER[@]}" env LD_PRELOAD="$APP_SHIM" \
				SHMIPC_ENDPOINTS="$ENDPOINTS" SHMIPC_LOG="info:$CLIENT_LOG" "$@"
		fi
		exec timeout -k 2 "$limit_s" "${AS_USER[@]}" "$@"
	)
}

# start_server OUTPUT COMMAND...: in a session of its own; sets SERVER_PID.
start_server() {
	local output=$1

	shift
	(as_side "$SERVER_SIDE" "$SERVER_LOG" setsid "$@") </dev/null >"$output" 2>&1 &
	SERVER_PID=$!
	APP_GROUPS+=("$SERVER_PID")
}

# eventually SECONDS COMMAND...: polls.
eventually() {
	poll $$ "$@"
}

# wait_until SECONDS COMMAND...: polls; gives up when the server is gone.
wait_until() {
	poll "$SERVER_PID" "$@"
}

# poll PID SECONDS COMMAND...: as long as that process lives.  It counts its looks and not the time, in
# which it may be that nobody ran.
poll() {
	local pid=$1 tries=$(($2 * 20 * APP_PATIENCE))

	shift 2
	until "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] && kill -0 "$pid" 2>/dev/null || return 1
		sleep 0.05
	done
}

# Looks without connecting: a one-off server must not take the probe for its client.
tcp_listens() {
	[ -n "$(ss -Hltn "sport = :$1")" ]
}

# stop_server NAME [SIGNAL]: it must still live (unless SIGNAL is none: it ends by itself), must not
# die of any other signal and must leave no process of its session behind.
stop_server() {
	local name=$1 sig=${2:-TERM} rc=0

	if [ "$sig" != none ]; then
		if ! kill -"$sig" "$SERVER_PID" 2>/dev/null; then
			wait "$SERVER_PID" || rc=$?
			not_ok "$name: server died by itself (status $rc)"
			forget_server
			return 0
		fi
	fi
	if ! eventually 10 is_gone "$SERVER_PID"; then
		not_ok "$name: server does not end"
		kill -KILL -- "-$SERVER_PID" 2>/dev/null || true
	fi
	wait "$SERVER_PID" || rc=$?
	if [ "$rc" -ge 128 ] && [ $rc -ne 143 ] && [ $rc -ne 137 ]; then
		not_ok "$name: server ended by signal $((rc - 128))"
	fi
	forget_server
}

is_gone() {
	! kill -0 "$1"
}

group_is_gone() {
	! pgrep -g "$1"
}

forget_server() {
	local g keep=()

	if ! eventually 2 group_is_gone "$SERVER_PID"; then
		not_ok "server left processes behind: $(pgrep -l -g "$SERVER_PID" | tr '\n' ' ')"
		kill -KILL -- "-$SERVER_PID" 2>/dev/null || true
	fi
	for g in "${APP_GROUPS[@]}"; do
		[ "$g" = "$SERVER_PID" ] || keep+=("$g")
	done
	APP_GROUPS=("${keep[@]}")
}

# moved WHICH LOG [PATTERN]: payload moved by WHICH, ring or kernel, in both directions of all closed
# connections.
moved() {
	[ -r "$2" ] || { echo 0; return 0; }
	grep -e "${3:-endpoint=}" "$2" | grep event=closed | tr ' ' '\n' |
		awk -F= -v tx="$1_tx" -v rx="$1_rx" '$1 == tx || $1 == rx { n += $2 } END { printf "%.0f\n", n }'
}

expect_accelerated() {
	local ring kernel

	ring=$(moved ring "$1" "${2:-}")
	kernel=$(moved kernel "$1" "${2:-}")
	if [ "$ring" -eq 0 ]; then
		echo "no ring traffic in $(basename "$1") ${2:-}:"
		grep -e "${2:-endpoint=}" "$1" 2>/dev/null | tail -n 8 || true
		return 1
	fi
	echo "info: ring bytes $ring, $((ring * 100 / (ring + kernel))) % of all"
}

# The shim must have been there (it saw a connection close) and must have left it plain.
expect_plain() {
	if ! grep -e "${2:-endpoint=}" "$1" 2>/dev/null | grep -q event=closed; then
		echo "the shim logged no closed connection ${2:-} to $(basename "$1")"
		return 1
	fi
	if grep -e "${2:-endpoint=}" "$1" | grep event=accelerated; then
		echo "accelerated although the peer is plain"
		return 1
	fi
	if [ "$(moved ring "$1" "${2:-}")" -ne 0 ]; then
		echo "ring traffic although the peer is plain"
		return 1
	fi
}

# expect_pairing NAME [PATTERN]: what the logs of both sides must say, by the pairing.
expect_pairing() {
	case $PAIRING in
	shim/shim)
		check "$1: server accelerated" expect_accelerated "$SERVER_LOG" "${2:-}"
		check "$1: client accelerated" expect_accelerated "$CLIENT_LOG" "${2:-}"
		;;
	shim/plain) check "$1: server stays plain" expect_plain "$SERVER_LOG" "${2:-}" ;;
	plain/shim) check "$1: client stays plain" expect_plain "$CLIENT_LOG" "${2:-}" ;;
	esac
}

# Some programs do with a connection what shared memory cannot follow: with the shim on both sides it
# stays plain too, and the log gives the reason.
# expect_left_plain NAME REASON [PATTERN]
expect_left_plain() {
	local name=$1 reason=$2 pattern=${3:-endpoint=}

	case $PAIRING in
	shim/shim)
		check "$name: plain, $reason" \
			grep -qhe "$pattern.*reason=$reason" "$SERVER_LOG" "$CLIENT_LOG"
		check "$name: no byte by shared memory" no_ring_bytes "$pattern" "$SERVER_LOG" "$CLIENT_LOG"
		;;
	shim/plain) check "$name: server stays plain" no_ring_bytes "$pattern" "$SERVER_LOG" ;;
	plain/shim) check "$name: client stays plain" no_ring_bytes "$pattern" "$CLIENT_LOG" ;;
	esac
}

no_ring_bytes() {
	local log pattern=$1

	shift
	for log in "$@"; do
		[ -r "$log" ] || { echo "the shim did not write $(basename "$log")"; return 1; }
		[ "$(moved ring "$log" "$pattern")" -eq 0 ] || { echo "ring traffic in $(basename "$log")"; return 1; }
	done
}
