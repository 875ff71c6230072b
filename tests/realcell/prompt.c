/*
 * Preloaded into OpenAFS's `vos`, which sleeps for 5 s in the middle of `vos release` (1.8): between
 * the copy beside the original and the others, so that no client finds all of them busy at once. With
 * this it sleeps until the next second begins: two releases never bear the same time.
 */
#define _GNU_SOURCE
#include <time.h>

unsigned int sleep(unsigned int seconds)
{
    struct timespec now;
    (void)seconds;
    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec++;
    now.tv_nsec = 0;
    clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &now, 0);
    return 0;
}
