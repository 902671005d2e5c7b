/* SPDX-License-Identifier: Apache-2.0 */
/* How often a millisecond this processor's time stamp counter counts: one number. */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

#define TRIES 20

struct reading {
	uint64_t count, ns;
};

/* Of several tries the one that nothing came between. */
static struct reading read_both(void)
{
	uint64_t least = UINT64_MAX;
	struct reading best = { 0, 0 };

	for (int i = 0; i < TRIES; i++) {
		struct timespec now;
		uint64_t before = __rdtsc(), after;

		clock_gettime(CLOCK_MONOTONIC_RAW, &now);
		after = __rdtsc();
		if (after - before >= least)
			continue;
		least = after - before;
		best.count = before + least / 2;
		best.ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	}
	return best;
}

int main(void)
{
	static const struct timespec pause = { .tv_nsec = 200000000 };
	struct reading first = read_both(), second;

	nanosleep(&pause, NULL);
	second = read_both();
	printf("%.0f\n", (double)(second.count - first.count) * 1e6 / (double)(second.ns - first.ns));
	return 0;
}
