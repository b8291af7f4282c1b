/* SPDX-License-Identifier: Apache-2.0 */
#include "core/copy.h"

void shmipc_copy_in_pieces(void *to, const void *from, size_t bytes)
{
	unsigned char *at = to;
	const unsigned char *source = from;

	while (bytes > 0) {
		/* not a constant, which the compiler may copy by `rep movsq` */
		size_t n = bytes < SHMIPC_COPY_PIECE_BYTES ? bytes : SHMIPC_COPY_PIECE_BYTES;

		memcpy(at, source, n);
		at += n;
		source += n;
		bytes -= n;
	}
}
