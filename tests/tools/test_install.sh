#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What `make install` puts where, that it works from there, that `make uninstall` takes away all of it
# and nothing else, and that the tarball of `make dist` is whole.
set -eu
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh"

make=("${MAKE:-make}" --no-print-directory)
stage=$work/stage
prefix=/opt/shmipc

files_below() # DIRECTORY: files and links, by their mode
{
	(cd "$1" && find . ! -type d -printf '%m %P\n' | sed 's/^777 /link /' | sort -k 2)
}

installed()
{
	{
		printf '755 bin/%s\n' shmipc-run shmipc-stat shmipc-bench
		printf '%s\n' '644 include/shmipc.h' '644 lib/libshmipc.a' 'link lib/libshmipc.so' \
			'755 lib/libshmipc.so.0' '755 lib/libshmipc_shim.so' '644 lib/pkgconfig/shmipc.pc'
		for page in docs/*.[137]; do
			printf '644 share/man/man%s/%s\n' "${page##*.}" "${page##*/}"
		done
	} | sort -k 2
}

pages_name_each_other() # every page that another one refers to is there
{
	local name section
	sed -n 's/^\.Xr \(\(lib\)\?shmipc[a-z_-]*\) \([137]\).*/\1 \3/p' "$stage$prefix"/share/man/man?/* |
		sort -u | while read -r name section; do
		[ -e "$stage$prefix/share/man/man$section/$name.$section" ] || { echo "no $name($section)"; exit 1; }
	done
}

preloads_its_own() # shmipc-run finds the shim beside itself, in ../lib
{
	"$stage$prefix/bin/shmipc-run" -- cat /proc/self/maps >"$work/maps" &&
		grep -q "$stage$prefix/lib/libshmipc_shim.so" "$work/maps"
}

from_pkgconfig() # WORDS OF PKG-CONFIG...
{
	PKG_CONFIG_SYSROOT_DIR=$stage PKG_CONFIG_PATH=$stage$prefix/lib/pkgconfig pkg-config "$@" shmipc
}

builds_a_program()
{
	cat >"$work/program.c" <<-'C'
		#include <shmipc.h>
		int main(void)
		{
			struct shmipc_config config;

			shmipc_config_init(&config, sizeof(config));
			return 0;
		}
	C
	# shellcheck disable=SC2046 # words
	"${CC:-cc}" -Wall -Werror -o "$work/program" "$work/program.c" $(from_pkgconfig --cflags --libs)
}

check 'install' "${make[@]}" install DESTDIR="$stage" PREFIX="$prefix" BUILD="$build"
check 'is all there, and no more' diff <(installed) <(files_below "$stage$prefix")
check 'the man pages name pages that are there' pages_name_each_other
check 'the shim is found' preloads_its_own
check 'shmipc-stat runs' exits_with 0 "$stage$prefix/bin/shmipc-stat"
check 'shmipc-bench runs' exits_with 0 "$stage$prefix/bin/shmipc-bench" --list
check 'a program is built by pkg-config' builds_a_program
check 'and runs' env LD_LIBRARY_PATH="$stage$prefix/lib" "$work/program"
check 'the version is one' [ "shmipc-run $(from_pkgconfig --modversion)" = "$("$stage$prefix/bin/shmipc-run" --version)" ]
check 'again, over itself' "${make[@]}" install DESTDIR="$stage" PREFIX="$prefix" BUILD="$build"
touch "$stage$prefix/lib/libother.so" "$stage$prefix/bin/shmipc-other"
check 'uninstall' "${make[@]}" uninstall DESTDIR="$stage" PREFIX="$prefix" BUILD="$build"
check 'leaves what is not ours' diff <(printf '%s\n' 'bin/shmipc-other' 'lib/libother.so') \
	<(files_below "$stage$prefix" | cut -d ' ' -f 2)

# What is committed is what a tarball holds; a tarball makes none.
if git rev-parse --git-dir >/dev/null 2>&1; then
	check 'dist' "${make[@]}" dist BUILD="$work/dist"
	check 'unpacks' tar -xzf "$work"/dist/shmipc-c-*.tar.gz -C "$work"
	tree=$(echo "$work"/shmipc-c-*/)
	check 'holds every committed file' diff <(git ls-tree -r --name-only HEAD | sort) \
		<(cd "$tree" && find . ! -type d -printf '%P\n' | sort)
	check 'builds by itself' "${make[@]}" -C "$tree" BUILD=build CFLAGS=-O0 WERROR=0 all
	check 'and installs' "${make[@]}" -C "$tree" BUILD=build CFLAGS=-O0 WERROR=0 install \
		DESTDIR="$work/other" PREFIX=/usr
	check 'the same files' diff <(installed) <(files_below "$work/other/usr")
fi
finish
