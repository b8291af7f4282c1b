/* SPDX-License-Identifier: Apache-2.0 */
/* How long is an x86-64 instruction?  Lengths only: enough to walk a function from its beginning,
 * and to know which of its bytes begin an instruction. */
#ifndef SHMIPC_PRELOAD_X86_LENGTH_H
#define SHMIPC_PRELOAD_X86_LENGTH_H

#include <stddef.h>
#include <stdint.h>

/* opcode_at: where in the instruction its opcode lies, behind all prefixes.  0: these bytes begin
 * no instruction, or it does not end within `bytes`. */
size_t shim_x86_length(const uint8_t *code, size_t bytes, size_t *opcode_at);

#endif
