/* An fdatasync that hangs for as long as HANG_US says before it does its work. Only what syncs waits. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

int fdatasync(int file)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    const char *hang_us = getenv("HANG_US");

    if (hang_us)
        usleep((useconds_t)atol(hang_us));
    return next(file);
}
