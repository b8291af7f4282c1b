/* SPDX-License-Identifier: Apache-2.0 */
/* A unified difference of two transcripts (longest common subsequence of their lines). */
#include "tests/conformance/runner/run.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { DIFF_LINES_MAX = 2000, DIFF_CONTEXT = 3 };

struct lines {
	char *text;
	const char *line[DIFF_LINES_MAX];
	size_t count;
};

static void split(struct lines *l, const char *text)
{
	char *rest, *one;

	l->count = 0;
	l->text = strdup(text);
	rest = l->text;
	while (rest && l->count < DIFF_LINES_MAX && (one = strsep(&rest, "\n"))) {
		if (*one || rest)
			l->line[l->count++] = one;
	}
}

/* lcs[i][j]: how many lines the tails from i and from j have in common. */
static uint16_t *common_tails(const struct lines *a, const struct lines *b)
{
	size_t width = b->count + 1;
	uint16_t *lcs = calloc((a->count + 1) * width, sizeof(*lcs));

	if (!lcs)
		return NULL;
	for (size_t i = a->count; i-- > 0;) {
		for (size_t j = b->count; j-- > 0;) {
			uint16_t down = lcs[(i + 1) * width + j];
			uint16_t right = lcs[i * width + j + 1];

			if (strcmp(a->line[i], b->line[j]) == 0)
				lcs[i * width + j] = (uint16_t)(lcs[(i + 1) * width + j + 1] + 1);
			else
				lcs[i * width + j] = down > right ? down : right;
		}
	}
	return lcs;
}

struct printer {
	FILE *to;
	const char *held[DIFF_CONTEXT]; /* context not printed yet, oldest first */
	size_t held_count;
	size_t after; /* context still wanted after a change */
};

static void put_same(struct printer *p, const char *line)
{
	if (p->after) {
		p->after--;
		fprintf(p->to, "#    %s\n", line);
		return;
	}
	if (p->held_count == DIFF_CONTEXT) {
		memmove(p->held, p->held + 1, (DIFF_CONTEXT - 1) * sizeof(p->held[0]));
		p->held_count--;
	}
	p->held[p->held_count++] = line;
}

static void put_change(struct printer *p, char sign, const char *line)
{
	for (size_t i = 0; i < p->held_count; i++)
		fprintf(p->to, "#    %s\n", p->held[i]);
	p->held_count = 0;
	p->after = DIFF_CONTEXT;
	fprintf(p->to, "#   %c%s\n", sign, line);
}

void print_diff(FILE *to, const char *expected, const char *actual)
{
	struct lines *a = malloc(sizeof(*a));
	struct lines *b = malloc(sizeof(*b));
	struct printer p = { .to = to };
	uint16_t *lcs;
	size_t i = 0, j = 0, width;

	if (!a || !b)
		exit(3);
	split(a, expected);
	split(b, actual);
	lcs = common_tails(a, b);
	width = b->count + 1;
	while (lcs && (i < a->count || j < b->count)) {
		if (i < a->count && j < b->count && strcmp(a->line[i], b->line[j]) == 0) {
			put_same(&p, a->line[i]);
			i++;
			j++;
		} else if (j == b->count ||
			   (i < a->count && lcs[(i + 1) * width + j] >= lcs[i * width + j + 1])) {
			put_change(&p, '-', a->line[i++]);
		} else {
			put_change(&p, '+', b->line[j++]);
		}
	}
	free(lcs);
	free(a->text);
	free(b->text);
	free(a);
	free(b);
}
