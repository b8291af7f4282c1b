/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our own system call instructions say where they are.
 *
 * The shim asks whether a program holds system call instructions of its own (preload/loaded.h), and
 * a program may have libshmipc linked into it.  What that waits for are descriptors of its own.  So
 * each instruction leaves an ELF note, which stays with whatever it is linked into.
 */
#ifndef SHMIPC_CORE_CALL_NOTE_H
#define SHMIPC_CORE_CALL_NOTE_H

#include <stdint.h>

#define SHMIPC_CALL_NOTE_NAME "shmipc"

enum { SHMIPC_CALL_NOTE_TYPE = 1 };

/* Behind the note's head (sizes of name and content, type): the name, NUL and padding to 8 bytes,
 * then how far from itself the instruction lies, 4 bytes. */
#define SHMIPC_CALL_NOTE(instruction)                   \
	"661:	" instruction "\n"                      \
	"	.pushsection .note.shmipc, \"a\", %%note\n"   \
	"	.balign 4\n"                                  \
	"	.long 7, 4, 1\n"                              \
	"	.asciz \"" SHMIPC_CALL_NOTE_NAME "\"\n" \
	"	.balign 4\n"                                  \
	"	.long 661b - .\n"                             \
	"	.popsection\n"

#endif
