#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A short run of every fuzzer, from its seeds.  (`make fuzz` runs them for long.)
set -eu
cd "$(dirname "$0")/../.."

if ! command -v clang >/dev/null || ! compgen -G '/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a' >/dev/null; then
	echo 'fuzzers skipped: clang or its libFuzzer is not installed (scripts/setup check)'
	echo '0 passed, 0 failed'
	exit 0
fi
make --no-print-directory "-j$(nproc)" BUILD="${BUILD:-build}" CC=clang CFLAGS='-O1 -g' MODE=fuzz fuzz-build
BUILD=${BUILD:-build} tests/fuzz/run "${FUZZ_SECONDS:-8}"
