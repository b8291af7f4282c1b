#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Which programs hold system call instructions of their own (preload/system_calls.h)?  Lengths of
# instructions against objdump, programs in which the bytes occur by chance only, and small ones that
# have an instruction, compiled in every way in which unwinders' tables may be missing.
set -eu
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh"

if [ "$(uname -m)" != x86_64 ]; then
	echo 'system calls: instructions of one length need no test'
	finish
	exit
fi
export PATH="$PATH:/usr/sbin"
tool=$work/system_calls
"${CC:-cc}" -O2 -std=gnu11 -D_GNU_SOURCE -I. -o "$tool" tests/tools/system_calls.c \
	preload/{system_calls,frames,x86_length}.c "$build/libshmipc.a" -pthread

# A lone prefix and bytes that are no instruction are data; a wait in front of an x87 instruction is
# one of its own.
lengths_are_right() # FILE
{
	objdump -d --insn-width=16 "$1" |
		grep -vP '\(bad\)|\.byte|\t9b |\t((rex(\.\w+)?|data16|addr32|repz?|repnz|lock|[c-gs]s)\s*)+$' |
		"$tool" lengths
}
library() { ldconfig -p | awk -v name="$1" '$1 == name && /x86-64/ && !found++ { print $NF }'; }
if command -v objdump >/dev/null; then
	for name in libc.so.6 libstdc++.so.6 libm.so.6 libssl.so.3 libgnutls.so.30; do
		file=$(library "$name")
		[ -z "$file" ] || check "lengths in $name" lengths_are_right "$file"
	done
	check 'lengths in the shim' lengths_are_right "$build/libshmipc_shim.so"
else
	echo '# no objdump (package binutils): lengths are not compared'
fi

has_none() # FILE
{
	"$tool" find "$1" >"$work/found" 2>"$work/where"
	grep -q ': 0$' "$work/found" || { cat "$work/found" "$work/where"; return 1; }
}
has() # NUMBER FILE
{
	"$tool" find "$2" 2>&1 | grep -q ": $1\$"
}

# The program and what it is linked with, less libc and the loader.
objects_of() # COMMAND
{
	local program
	program=$(readlink -f "$1")
	echo "$program"
	ldd "$program" 2>/dev/null | awk '/=> \// { print $3 }' |
		grep -Ev '/(libc\.so\.6|ld-linux[^/]*|liburing\.so[^/]*)$' || true
}
for name in redis-server nginx /usr/bin/python3 node java haproxy iperf3 memcached \
	/usr/lib/postgresql/*/bin/postgres; do
	command=$(command -v "$name" || true)
	if [ -z "$command" ]; then
		echo "# ${name##*/} is not installed: not looked at"
		continue
	fi
	for object in $(objects_of "$command"); do
		check "${name##*/}: none in $object" has_none "$object"
	done
	if [ "$name" = java ]; then
		check 'java: none in libjvm.so' has_none \
			"$(dirname "$(dirname "$(readlink -f "$command")")")/lib/server/libjvm.so"
	fi
done

cat >"$work/with.c" <<'EOF'
#include <sys/syscall.h>
#include <poll.h>
int main(void)
{
	struct pollfd p = { 0, POLLIN, 0 };
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(SYS_poll), "D"(&p), "S"(1L), "d"(1L) : "rcx", "r11", "memory");
	return result < 0;
}
EOF
cat >"$work/without.c" <<'EOF'
/* the two bytes as displacement, as immediate, and as a constant among code */
int main(int count, char **arguments)
{
	unsigned int value = 0x050f050fu ^ (unsigned int)count;
	__asm__ volatile("lea 0x50f050f(%%rax), %%rcx\n\tmovl $0x50f0000, %%ecx" : : : "rcx");
	(void)arguments;
	return value == 1;
}
__asm__(".text\n.balign 16\n.quad 0x050f050f050f050f, 0x0f050f050f050f05\n");
EOF
for flags in '-pie -fPIE' '-no-pie' '-static-pie -fPIE' '-O0' '-fno-asynchronous-unwind-tables' \
	'-Wl,--no-eh-frame-hdr' '-s' '-s -fno-asynchronous-unwind-tables'; do
	# shellcheck disable=SC2086
	"${CC:-cc}" -O2 $flags -nostartfiles -Wl,-emain -o "$work/with" "$work/with.c" &&
		"${CC:-cc}" -O2 $flags -nostartfiles -Wl,-emain -o "$work/without" "$work/without.c" ||
		continue
	case $flags in *static*) continue ;; esac
	check "one instruction is found: $flags" has 1 "$work/with"
	check "none by chance: $flags" has_none "$work/without"
done
printf 'main: mov $232, %%eax\n syscall\n ret\n.globl main\n' >"$work/bare.s"
"${CC:-cc}" -nostartfiles -Wl,-emain -o "$work/bare" "$work/bare.s"
check 'found where no table knows the function' has 1 "$work/bare"

# Torn tables: what is left is judged without them, and nothing crashes.
cat >"$work/tear.py" <<'EOF'
import random, struct, sys
data = bytearray(open(sys.argv[1], "rb").read())
random.seed(int(sys.argv[3]))
offset, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
for i in range(count):
    kind, _, at, _, _, bytes_ = struct.unpack_from("<IIQQQQ", data, offset + 56 * i)
    if kind == 0x6474e550:
        for _ in range(1 + bytes_ // 8):
            data[at + random.randrange(bytes_)] = random.randrange(256)
open(sys.argv[2], "wb").write(data)
EOF
tears()
{
	local seed
	for seed in $(seq 40); do
		python3 "$work/tear.py" "$build/conformance/bare_instruction.so" "$work/torn" "$seed"
		has 1 "$work/torn" || { echo "seed $seed"; return 1; }
	done
}
if [ -e "$build/conformance/bare_instruction.so" ]; then
	check 'found in spite of torn tables' tears
fi
finish
