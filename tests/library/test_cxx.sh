#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A C++ program includes the public header, without a warning from any compiler here, and runs with the
# shared and the static library.
set -eu
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/../tools/lib.sh"

warnings=(-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wold-style-cast -Werror)
compilers=()
for compiler in g++ clang++; do
	! command -v "$compiler" >/dev/null || compilers+=("$compiler")
done
check 'a compiler is here' [ ${#compilers[@]} -gt 0 ]

# builds COMPILER STANDARD OUTPUT LIBRARY...
builds() {
	local compiler=$1 standard=$2 output=$3
	shift 3
	"$compiler" "-std=$standard" "${warnings[@]}" -O1 -Icore/include tests/library/roundtrip.cc \
		-o "$output" "$@" -pthread
}

for compiler in "${compilers[@]}"; do
	for standard in c++11 c++20; do
		check "$compiler, $standard, shared" builds "$compiler" "$standard" "$work/shared" \
			"-L$build" -lshmipc "-Wl,-rpath,$(realpath "$build")"
		check "$compiler, $standard, shared: runs" timeout 60 "$work/shared" "unix:$work/socket"
	done
	check "$compiler, static" builds "$compiler" c++17 "$work/static" "$build/libshmipc.a"
	check "$compiler, static: runs" timeout 60 "$work/static" "unix:@cxx.$$"
done
check 'the shared one is meant' bash -c "LD_LIBRARY_PATH='$build' ldd '$work/shared' | grep -q libshmipc.so.0"
finish
