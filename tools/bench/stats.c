/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/bench/stats.h"

#include <math.h>
#include <stdlib.h>

static void swap(uint32_t *a, uint32_t *b)
{
	uint32_t kept = *a;

	*a = *b;
	*b = kept;
}

static uint32_t middle_of(uint32_t a, uint32_t b, uint32_t c)
{
	if (a > b)
		swap(&a, &b);
	return c < a ? a : c > b ? b : c;
}

/* Hoare's partition around the middle one of three: samples[low..j] <= pivot <= samples[j+1..high],
 * with low <= j < high.  Equal keys are split evenly, so a set of few distinct values stays linear.
 */
static size_t partition(uint32_t *samples, size_t low, size_t high)
{
	uint32_t pivot = middle_of(samples[low], samples[low + (high - low) / 2], samples[high]);
	size_t i = low, j = high;

	for (;;) {
		while (samples[i] < pivot)
			i++;
		while (samples[j] > pivot)
			j--;
		if (i >= j)
			return j == high ? j - 1 : j;
		swap(&samples[i++], &samples[j--]);
	}
}

/* Quick selection: afterwards samples[rank] is what a sort would have put there. */
static uint32_t select_rank(uint32_t *samples, size_t count, size_t rank)
{
	size_t low = 0, high = count - 1;

	while (low < high) {
		size_t j = partition(samples, low, high);

		if (rank <= j)
			high = j;
		else
			low = j + 1;
	}
	return samples[rank];
}

uint32_t stats_percentile(uint32_t *samples, size_t count, unsigned int per_mille)
{
	size_t rank;

	if (count == 0)
		return 0;
	rank = (count * per_mille + 999) / 1000;
	if (rank < 1)
		rank = 1;
	if (rank > count)
		rank = count;
	return select_rank(samples, count, rank - 1);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double stats_median(double *values, size_t count)
{
	if (count == 0)
		return (double)NAN;
	qsort(values, count, sizeof(values[0]), compare);
	if (count % 2)
		return values[count / 2];
	return (values[count / 2 - 1] + values[count / 2]) / 2;
}

double stats_min(const double *values, size_t count)
{
	double least = (double)NAN;

	for (size_t i = 0; i < count; i++)
		if (i == 0 || values[i] < least)
			least = values[i];
	return least;
}
