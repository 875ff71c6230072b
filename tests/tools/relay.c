/*
 * A long line between two network namespaces, as an Ethernet bridge in user space.
 *
 * Opens a TAP device in each namespace and carries frames between them, every one late by the
 * delay of its direction. With a rate they also wait for those before them to pass, and UDP frames
 * that would wait for longer than the queue is are dropped, as by a modem. IPv4 UDP frames may in
 * addition be lost, doubled, or held back so that later ones overtake them, all from one seeded
 * generator. No address is changed.
 *
 * Started by relay.py. When both devices exist, one line "ready" is written; at SIGTERM one line
 * with counters, as JSON, and the end. It also ends when its standard input does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define FRAME_BYTES 1600    /* an Ethernet frame of MTU 1500, with room to spare */
#define BATCH 64            /* frames read from one side before the other has its turn */
#define MAX_FRAMES 200000   /* in flight; beyond it frames are dropped as by a full queue */
#define NANOSECOND 1000000000LL

struct frame {
    int64_t due;            /* CLOCK_MONOTONIC, ns */
    uint64_t order;         /* arrival, so that equal times keep their order */
    int to;                 /* index of the side to write to */
    int length;
    unsigned char data[FRAME_BYTES];
};

struct settings {
    int64_t delay, jitter, hold;        /* ns, each way */
    int64_t rate, queue;                /* bit/s, 0: without bound; ns that a frame may wait */
    double loss, duplicate, reorder;    /* probabilities */
};

static struct frame *heap[MAX_FRAMES];
static struct frame *spare[MAX_FRAMES + 8];
static int heap_count, spare_count;
static uint64_t arrivals, random_state;
static int64_t free_at[2];             /* when a side has sent what it was given so far */
static uint64_t carried, lost, doubled, held, overflowed;
static volatile sig_atomic_t stopping;

static void fail(const char *what)
{
    fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void stop(int number)
{
    (void)number;
    stopping = 1;
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * NANOSECOND + time.tv_nsec;
}

/* xorshift64*: uniform in [0, 1) */
static double chance(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (double)((random_state * 2685821657736338717ULL) >> 11) / 9007199254740992.0;
}

static int earlier(const struct frame *a, const struct frame *b)
{
    return a->due != b->due ? a->due < b->due : a->order < b->order;
}

static void push(struct frame *frame)
{
    int at = heap_count++;
    while (at > 0 && earlier(frame, heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = frame;
}

static struct frame *pop(void)
{
    struct frame *first = heap[0], *last = heap[--heap_count];
    int at = 0;
    for (;;) {
        int child = 2 * at + 1;
        if (child >= heap_count)
            break;
        if (child + 1 < heap_count && earlier(heap[child + 1], heap[child]))
            child++;
        if (!earlier(heap[child], last))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return first;
}

static struct frame *take_spare(void)
{
    struct frame *frame = spare_count ? spare[--spare_count] : malloc(sizeof *frame);
    if (frame == NULL)
        fail("memory");
    return frame;
}

/* Enter a network namespace and make a TAP device there. -> its descriptor, which stays valid */
static int open_tap(const char *namespace, const char *name)
{
    struct ifreq request;
    int space = open(namespace, O_RDONLY | O_CLOEXEC), tap;
    if (space < 0 || setns(space, CLONE_NEWNET) != 0)
        fail(namespace);
    close(space);
    tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (tap < 0)
        fail("/dev/net/tun");
    memset(&request, 0, sizeof request);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (ioctl(tap, TUNSETIFF, &request) != 0)
        fail(name);
    return tap;
}

static int is_udp(const struct frame *frame)
{
    const unsigned char *data = frame->data;
    return frame->length >= 34 && data[12] == 0x08 && data[13] == 0x00 && data[23] == 17;
}

/* When a frame has passed a line of this rate; -1 when the queue before it is full. */
static int64_t passed(const struct frame *frame, const struct settings *line, int64_t time)
{
    int64_t *free = &free_at[frame->to];
    if (line->rate == 0)
        return time;
    if (*free < time)
        *free = time;
    if (*free - time > line->queue && is_udp(frame))
        return -1;
    *free += frame->length * 8 * NANOSECOND / line->rate;
    return *free;
}

/* Decide the fate of a frame which was read just now. */
static void admit(struct frame *frame, const struct settings *line, int64_t time)
{
    int copies = 1;
    time = passed(frame, line, time);
    if (time < 0) {
        overflowed++;
        spare[spare_count++] = frame;
        return;
    }
    frame->due = time + line->delay;
    if (is_udp(frame)) {
        if (line->loss > 0 && chance() < line->loss) {
            lost++;
            copies = 0;
        } else if (line->duplicate > 0 && chance() < line->duplicate) {
            doubled++;
            copies = 2;
        }
        if (line->jitter > 0)
            frame->due += (int64_t)(chance() * (double)line->jitter);
        if (line->reorder > 0 && chance() < line->reorder) {
            held++;
            frame->due += (int64_t)(chance() * (double)line->hold);
        }
    }
    if (heap_count + copies > MAX_FRAMES) {
        overflowed++;
        copies = 0;
    }
    if (copies == 2) {
        struct frame *copy = take_spare();
        memcpy(copy, frame, offsetof(struct frame, data) + (size_t)frame->length);
        copy->order = arrivals++;
        push(copy);
    }
    if (copies > 0) {
        frame->order = arrivals++;
        push(frame);
    } else {
        spare[spare_count++] = frame;
    }
}

static void read_side(const int *taps, int side, const struct settings *line)
{
    int64_t time = now();
    for (int count = 0; count < BATCH; count++) {
        struct frame *frame = take_spare();
        ssize_t length = read(taps[side], frame->data, FRAME_BYTES);
        if (length <= 0) {
            spare[spare_count++] = frame;
            return;
        }
        frame->length = (int)length;
        frame->to = 1 - side;
        admit(frame, line, time);
    }
}

static void deliver(const int *taps)
{
    int64_t time = now();
    while (heap_count > 0 && heap[0]->due <= time) {
        struct frame *frame = pop();
        if (write(taps[frame->to], frame->data, (size_t)frame->length) == frame->length)
            carried++;
        else if (errno != EIO) /* EIO: that end is not up yet, or any more: nobody misses it */
            overflowed++;
        spare[spare_count++] = frame;
    }
}

static void carry(const int *taps, const struct settings *line)
{
    struct pollfd polled[3] = {{taps[0], POLLIN, 0}, {taps[1], POLLIN, 0}, {0, 0, 0}};
    while (!stopping) {
        struct timespec wait = {1, 0};
        if (heap_count > 0) {
            int64_t left = heap[0]->due - now();
            if (left < 0)
                left = 0;
            if (left < NANOSECOND)
                wait = (struct timespec){0, left};
        }
        if (ppoll(polled, 3, &wait, NULL) > 0) {
            if (polled[2].revents & POLLHUP)
                return;
            for (int side = 0; side < 2; side++)
                if (polled[side].revents & POLLIN)
                    read_side(taps, side, line);
        }
        deliver(taps);
    }
}

/* Stay on one processor: the kernel queues frames for each, so one that moves reorders them. */
static void stay(void)
{
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    if (sched_setaffinity(0, sizeof here, &here) != 0)
        fail("sched_setaffinity");
}

int main(int count, char **arguments)
{
    struct settings line;
    int taps[2];
    if (count != 14) {
        fprintf(stderr, "usage: relay NS NAME NS NAME delay jitter hold loss duplicate reorder"
                        " seed rate queue (ns, probabilities, bit/s)\n");
        return 2;
    }
    line.delay = atoll(arguments[5]);
    line.jitter = atoll(arguments[6]);
    line.hold = atoll(arguments[7]);
    line.loss = atof(arguments[8]);
    line.duplicate = atof(arguments[9]);
    line.reorder = atof(arguments[10]);
    random_state = strtoull(arguments[11], NULL, 10) * 2654435769ULL + 88172645463325252ULL;
    line.rate = atoll(arguments[12]);
    line.queue = atoll(arguments[13]);
    stay();
    prctl(PR_SET_TIMERSLACK, 1000UL);
    signal(SIGTERM, stop);
    signal(SIGINT, SIG_IGN);
    taps[0] = open_tap(arguments[1], arguments[2]);
    taps[1] = open_tap(arguments[3], arguments[4]);
    printf("ready\n");
    fflush(stdout);
    carry(taps, &line);
    printf("{\"carried\": %llu, \"lost\": %llu, \"doubled\": %llu, \"held\": %llu,"
           " \"overflowed\": %llu}\n",
           (unsigned long long)carried, (unsigned long long)lost, (unsigned long long)doubled,
           (unsigned long long)held, (unsigned long long)overflowed);
    return 0;
}
