/* Plays a disk that hangs or is full, and a clock that is set, for one process. FAULTS_FILES is a file of two numbers
   of 64 bits: what the disk does (0 works, 1 hangs, 2 is full), and by how many nanoseconds CLOCK_REALTIME is off.
   FAULTS_FOLDER is the folder that is on the disk. What waits for a disk that hangs continues when it works again. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define NAP_US 5000

enum { WORKS, HANGS, FULL };

static volatile long long none[2];
static volatile long long *page = none;
static const char *folder = "";

__attribute__((constructor)) static void attach(void) {
    const char *name = getenv("FAULTS_FILES");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *found = mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED)
        page = found;
    close(file);
    folder = getenv("FAULTS_FOLDER");
}

static int is_on_the_disk(int file) {
    char link[32], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return !strncmp(path, folder, strlen(folder));
}

/* Wait while the disk hangs; whether it is full. */
static int is_full(int file) {
    if (*page == WORKS || !is_on_the_disk(file))
        return 0;
    while (*page == HANGS)
        usleep(NAP_US);
    if (*page != FULL)
        return 0;
    errno = ENOSPC;
    return 1;
}

ssize_t write(int file, const void *data, size_t size) {
    return is_full(file) ? -1 : syscall(SYS_write, file, data, size);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t place) {
    return is_full(file) ? -1 : syscall(SYS_pwrite64, file, data, size, place);
}

ssize_t pwrite64(int file, const void *data, size_t size, off_t place) {
    return is_full(file) ? -1 : syscall(SYS_pwrite64, file, data, size, place);
}

int ftruncate(int file, off_t size) {
    is_full(file);
    return syscall(SYS_ftruncate, file, size);
}

int ftruncate64(int file, off_t size) {
    is_full(file);
    return syscall(SYS_ftruncate, file, size);
}

int fsync(int file) {
    is_full(file);
    return syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    is_full(file);
    return syscall(SYS_fdatasync, file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME && page[1]) {
        long long all = now->tv_sec * SECOND + now->tv_nsec + page[1];
        *now = (struct timespec){.tv_sec = all / SECOND, .tv_nsec = all % SECOND};
    }
    return failed;
}
