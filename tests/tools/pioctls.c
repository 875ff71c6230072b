/*
 * Answers the pioctls of OpenAFS's programs from files, so that they print what they would print of
 * a cache manager that says this. Preloaded; there is no kernel module.
 *
 * PIOCTLS names a folder. The answer to command C (hexadecimal) is the file C.N for its Nth call,
 * counted from 0, or else C; without either the call fails with EDOM, where a list of which there
 * is one call for each entry ends. What is sent along is appended to the file C.in.
 *
 * Sources: src/sys/glue.c, src/afs/LINUX/osi_ioctl.c and src/config/afs.h of OpenAFS.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char device[] = "/proc/fs/openafs/afs_ioctl";
static int descriptor = -1;
static unsigned calls[65536];

struct request {
    long follow, vice, command, path, call;
};

struct vice {
    char *in, *out;
    short in_size, out_size;
};

enum { PIOCTL = 20, NAME = 4096 };

static int opened(const char *path)
{
    if (strcmp(path, device) != 0)
        return 0;
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
    descriptor = real("/dev/null", O_RDWR);
    return 1;
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        int mode = flags & O_CREAT ? va_arg(more, int) : 0;                                        \
        va_end(more);                                                                              \
        if (opened(path))                                                                          \
            return descriptor;                                                                     \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);                             \
        return real(path, flags, mode);                                                            \
    }

OPEN(open)
OPEN(open64)

static int answer(unsigned command, struct vice *vice)
{
    char name[NAME];
    const char *folder = getenv("PIOCTLS");
    unsigned number = calls[command & 0xffff]++;

    snprintf(name, sizeof name, "%s/%x.in", folder, command);
    FILE *log = fopen(name, "a");
    fwrite(vice->in, 1, vice->in_size, log);
    fputc('\n', log);
    fclose(log);
    snprintf(name, sizeof name, "%s/%x.%u", folder, command, number);
    FILE *file = fopen(name, "r");
    if (file == NULL) {
        snprintf(name, sizeof name, "%s/%x", folder, command);
        file = fopen(name, "r");
    }
    if (file == NULL) {
        errno = EDOM;
        return -1;
    }
    if (vice->out_size > 0)
        memset(vice->out, 0, vice->out_size);
    if (vice->out_size > 0 && fread(vice->out, 1, vice->out_size, file) == 0 && ferror(file))
        abort();
    fclose(file);
    return 0;
}

int ioctl(int which, unsigned long code, ...)
{
    va_list more;
    va_start(more, code);
    void *argument = va_arg(more, void *);
    va_end(more);
    if (which < 0 || which != descriptor) {
        int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
        return real(which, code, argument);
    }
    struct request *request = argument;
    if (request->call != PIOCTL) {
        errno = ENOSYS;
        return -1;
    }
    return answer((unsigned)request->command, (struct vice *)request->vice);
}
