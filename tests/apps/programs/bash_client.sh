# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# bash_client.sh PORT FILE: an echo server's client in bash alone, which then shares its connection
# with its children.
set -eu

questions() {
	local i answer

	for i in $(seq "$1"); do
		echo "question $i" >&3
		read -r -t "$APP_LIMIT_S" answer <&3 || return 1
		[ "$answer" = "question $i" ] || { echo "got: $answer"; return 1; }
	done
}

port=$1
file=$2
bytes=$(stat -c %s "$file")
exec 3<>"/dev/tcp/127.0.0.1/$port"
questions 500
# a subshell is a fork of this shell
(questions 50)
questions 50
# programs that inherit it, as another number, the reader beside the writer
cat "$file" >&3 &
head -c "$bytes" <&3 | cmp - "$file"
wait $!
questions 50
# lines to the end of an array; then another connection beside
seq 1000 >&3
mapfile -n 1000 -t lines <&3
[ "${#lines[@]}" -eq 1000 ] && [ "${lines[999]}" = 1000 ]
exec 4<>"/dev/tcp/127.0.0.1/$port"
echo beside >&4
read -r -t "$APP_LIMIT_S" answer <&4
[ "$answer" = beside ]
exec 4>&-
questions 50
exec 3>&-
