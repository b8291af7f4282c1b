/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/x86_length.h"

#include <stdbool.h>

enum {
	LENGTH_MAX = 15,
	REX_W = 8,
	PREFIX_OPERAND = 0x66,
	PREFIX_ADDRESS = 0x67,
};

/* What follows an opcode. */
enum {
	NOTHING = 0,
	MODRM = 1,
	IMM8 = 2,
	IMM16 = 4,
	IMM32 = 8,
	IMM_Z = 16,	   /* 4 bytes, or 2 */
	IMM_V = 32,	   /* 8, 4 or 2 */
	OFFSET = 64,	   /* an address of its own: 8, or 4 */
	BY_GROUP = 128,	   /* an immediate if the group's number is 0 or 1 */
	UNKNOWN = 1 << 15, /* no instruction in 64-bit mode */
};

struct walk {
	const uint8_t *code;
	size_t bytes, at;
	uint8_t rex;
	bool operand16, address32;
};

static bool have(const struct walk *w, size_t more)
{
	return more <= w->bytes && w->at <= w->bytes - more;
}

/* ---- one byte ---- */

static unsigned int arithmetic(uint8_t opcode)
{
	switch (opcode & 7) {
	case 4:
		return IMM8;
	case 5:
		return IMM_Z;
	case 6:
	case 7:
		return UNKNOWN;
	default:
		return MODRM;
	}
}

static unsigned int below_c0(uint8_t opcode)
{
	if (opcode < 0x40)
		return arithmetic(opcode);
	if (opcode >= 0x50 && opcode < 0x60)
		return NOTHING;
	if (opcode >= 0x70 && opcode < 0x80)
		return IMM8;
	if (opcode >= 0x84 && opcode < 0x90)
		return MODRM;
	if (opcode >= 0xa0 && opcode < 0xa4)
		return OFFSET;
	if (opcode >= 0xb0)
		return opcode < 0xb8 ? IMM8 : IMM_V;
	switch (opcode) {
	case 0x60:
	case 0x61:
	case 0x82:
	case 0x9a:
		return UNKNOWN;
	case 0x63:
		return MODRM;
	case 0x68:
	case 0xa9:
		return IMM_Z;
	case 0x69:
	case 0x81:
		return MODRM | IMM_Z;
	case 0x6a:
	case 0xa8:
		return IMM8;
	case 0x6b:
	case 0x80:
	case 0x83:
		return MODRM | IMM8;
	default:
		return NOTHING;
	}
}

static unsigned int from_c0(uint8_t opcode)
{
	if (opcode >= 0xd8 && opcode < 0xe0)
		return MODRM;
	if (opcode >= 0xe0 && opcode < 0xe8)
		return IMM8;
	switch (opcode) {
	case 0xc0:
	case 0xc1:
	case 0xc6:
		return MODRM | IMM8;
	case 0xc2:
	case 0xca:
		return IMM16;
	case 0xc7:
		return MODRM | IMM_Z;
	case 0xc8:
		return IMM16 | IMM8;
	case 0xcd:
	case 0xeb:
		return IMM8;
	case 0xce:
	case 0xd4:
	case 0xd5:
	case 0xd6:
	case 0xea:
		return UNKNOWN;
	case 0xd0:
	case 0xd1:
	case 0xd2:
	case 0xd3:
	case 0xfe:
	case 0xff:
		return MODRM;
	case 0xe8:
	case 0xe9:
		return IMM32; /* a prefix for 16 bits counts for nothing here */
	case 0xf6:
		return MODRM | BY_GROUP | IMM8;
	case 0xf7:
		return MODRM | BY_GROUP | IMM_Z;
	default:
		return NOTHING;
	}
}

/* ---- two bytes and more ---- */

/* What vector instructions of the second map have as well. */
static bool has_control_byte(uint8_t opcode)
{
	return (opcode >= 0x70 && opcode <= 0x73) || opcode == 0xc2 ||
	       (opcode >= 0xc4 && opcode <= 0xc6);
}

static unsigned int after_0f(uint8_t opcode)
{
	if (opcode >= 0x80 && opcode < 0x90)
		return IMM32;
	if (opcode >= 0xc8 && opcode < 0xd0)
		return NOTHING;
	if (has_control_byte(opcode))
		return MODRM | IMM8;
	switch (opcode) {
	case 0x04:
	case 0x0a:
	case 0x0c:
	case 0x24:
	case 0x25:
	case 0x26:
	case 0x27:
	case 0x36:
	case 0x39:
	case 0x3b:
	case 0x3c:
	case 0x3d:
	case 0x3e:
	case 0x3f:
		return UNKNOWN;
	case 0x05:
	case 0x06:
	case 0x07:
	case 0x08:
	case 0x09:
	case 0x0b:
	case 0x0e:
	case 0x30:
	case 0x31:
	case 0x32:
	case 0x33:
	case 0x34:
	case 0x35:
	case 0x37:
	case 0x77:
	case 0xa0:
	case 0xa1:
	case 0xa2:
	case 0xa8:
	case 0xa9:
	case 0xaa:
		return NOTHING;
	case 0x0f:
	case 0xa4:
	case 0xac:
	case 0xba:
		return MODRM | IMM8;
	default:
		return MODRM;
	}
}

/* Of VEX, EVEX and XOP, whose prefix names the map. */
static unsigned int in_map(unsigned int map, uint8_t opcode)
{
	switch (map) {
	case 1:
		if (opcode == 0x77)
			return NOTHING;
		return has_control_byte(opcode) ? MODRM | IMM8 : MODRM;
	case 2:
	case 5:
	case 6:
	case 9:
		return MODRM;
	case 3:
	case 8:
		return MODRM | IMM8;
	case 10:
		return MODRM | IMM32;
	default:
		return UNKNOWN;
	}
}

/* ---- the parts ---- */

static void skip_prefixes(struct walk *w)
{
	for (; have(w, 1); w->at++) {
		uint8_t byte = w->code[w->at];

		if ((byte & 0xf0) == 0x40) {
			w->rex = byte;
			continue;
		}
		if (byte == PREFIX_OPERAND)
			w->operand16 = true;
		else if (byte == PREFIX_ADDRESS)
			w->address32 = true;
		else if (byte != 0xf0 && byte != 0xf2 && byte != 0xf3 && byte != 0x2e &&
			 byte != 0x36 && byte != 0x3e && byte != 0x26 && byte != 0x64 &&
			 byte != 0x65)
			return;
		w->rex = 0; /* it counts right before the opcode only */
	}
}

/* The vector prefix, of which `extra` bytes follow the first. */
static unsigned int vector(struct walk *w, size_t extra, unsigned int map)
{
	w->at += 1 + extra;
	w->operand16 = false;
	return have(w, 1) ? in_map(map, w->code[w->at]) : UNKNOWN;
}

/* Leaves w->at at the last byte of the opcode. */
static unsigned int what_follows(struct walk *w)
{
	uint8_t first = w->code[w->at], next = have(w, 2) ? w->code[w->at + 1] : 0;

	switch (first) {
	case 0x0f:
		if (!have(w, 2))
			return UNKNOWN;
		w->at++;
		if (next != 0x38 && next != 0x3a)
			return after_0f(next);
		w->at++;
		return next == 0x38 ? MODRM : MODRM | IMM8;
	case 0xc4:
		return vector(w, 2, next & 0x1f);
	case 0xc5:
		return vector(w, 1, 1);
	case 0x62:
		return vector(w, 3, next & 7);
	case 0x8f:
		return (next & 0x1f) >= 8 ? vector(w, 2, next & 0x1f) : MODRM;
	default:
		return first < 0xc0 ? below_c0(first) : from_c0(first);
	}
}

/* ModRM, SIB and displacement. */
static size_t address_bytes(const struct walk *w, bool register_only)
{
	uint8_t modrm = w->code[w->at], mode = modrm >> 6, base = modrm & 7;
	size_t bytes = 1;

	if (mode == 3 || register_only)
		return bytes;
	if (base == 4) {
		if (!have(w, 2))
			return SIZE_MAX / 2;
		base = w->code[w->at + 1] & 7;
		bytes++;
	}
	if (mode == 1)
		return bytes + 1;
	return bytes + (mode == 2 || base == 5 ? 4 : 0);
}

static size_t immediate_bytes(const struct walk *w, unsigned int follows)
{
	size_t bytes = 0;

	if (follows & IMM8)
		bytes += 1;
	if (follows & IMM16)
		bytes += 2;
	if (follows & IMM32)
		bytes += 4;
	if (follows & IMM_Z)
		bytes += w->operand16 && !(w->rex & REX_W) ? 2 : 4;
	if (follows & IMM_V)
		bytes += w->rex & REX_W ? 8 : w->operand16 ? 2 : 4;
	if (follows & OFFSET)
		bytes += w->address32 ? 4 : 8;
	return bytes;
}

size_t shim_x86_length(const uint8_t *code, size_t bytes, size_t *opcode_at)
{
	struct walk w = { .code = code, .bytes = bytes < LENGTH_MAX ? bytes : LENGTH_MAX };
	unsigned int follows;
	uint8_t opcode;
	bool is_0f;

	skip_prefixes(&w);
	if (!have(&w, 1))
		return 0;
	*opcode_at = w.at;
	is_0f = code[w.at] == 0x0f;
	follows = what_follows(&w);
	if (follows & UNKNOWN)
		return 0;
	opcode = code[w.at++];
	if (follows & MODRM) {
		if (!have(&w, 1))
			return 0;
		if ((follows & BY_GROUP) && ((code[w.at] >> 3) & 7) > 1)
			follows = MODRM;
		/* two bytes more where SSE4a has the number of VMREAD */
		if (is_0f && opcode == 0x78 && w.at == *opcode_at + 2 &&
		    (w.operand16 || (*opcode_at > 0 && code[*opcode_at - 1] == 0xf2)))
			follows |= IMM16;
		/* moves from and to control registers know no memory */
		w.at += address_bytes(&w, is_0f && w.at == *opcode_at + 2 && opcode >= 0x20 &&
						  opcode < 0x24);
	}
	w.at += immediate_bytes(&w, follows);
	return w.at <= w.bytes ? w.at : 0;
}
