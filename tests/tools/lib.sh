# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by the tests of the tools: a scratch directory, and checks that count.

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck disable=SC2034
build=${BUILD:-build} # for the scripts that source this
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

check() # DESCRIPTION COMMAND...: the command must succeed
{
	local what=$1
	shift
	if "$@" >"$work/check.out" 2>&1; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		printf 'not ok %s\n' "$what"
		sed 's/^/    /' "$work/check.out"
	fi
}

exits_with() # STATUS COMMAND...; leaves $work/out and $work/err
{
	local expected=$1 status=0
	shift
	"$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
	[ "$status" -eq "$expected" ] || { echo "exit status $status, not $expected"; cat "$work/err"; return 1; }
}

one_line_usage_error() # COMMAND...
{
	exits_with 2 "$@" || return 1
	[ ! -s "$work/out" ] || { echo 'wrote on standard output'; return 1; }
	[ "$(wc -l <"$work/err")" -eq 1 ] || { echo 'not one line:'; cat "$work/err"; return 1; }
}

finish()
{
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ]
}
