/* Plays the sleep of a computer for one process: its CLOCK_MONOTONIC is behind by the nanoseconds that the file
   FAULTS_SLEPT holds. CLOCK_BOOTTIME and CLOCK_REALTIME go on. The process is stopped meanwhile by whoever writes
   that number. Waits until a moment of CLOCK_MONOTONIC are moved, and go on after a sleep for what was left. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
/* Moments of CLOCK_REALTIME are later than this, those of CLOCK_MONOTONIC earlier: a condition keeps its clock secret. */
#define YEARS_30 1000000000LL

static volatile long long none;
static volatile long long *slept = &none;

__attribute__((constructor)) static void attach(void) {
    const char *name = getenv("FAULTS_SLEPT");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *page = mmap(NULL, sizeof(long long), PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED)
        slept = page;
    close(file);
}

static struct timespec moved(const struct timespec *moment, long long by) {
    long long all = moment->tv_sec * SECOND + moment->tv_nsec + by;
    return (struct timespec){.tv_sec = all / SECOND, .tv_nsec = all % SECOND};
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_MONOTONIC_COARSE))
        *now = moved(now, -*slept);
    return failed;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left) {
    if (clock != CLOCK_MONOTONIC || !(flags & TIMER_ABSTIME))
        return syscall(SYS_clock_nanosleep, clock, flags, until, left) ? errno : 0;
    long long before;
    int failed;
    do {
        before = *slept;
        struct timespec real = moved(until, before);
        failed = syscall(SYS_clock_nanosleep, clock, flags, &real, NULL) ? errno : 0;
    } while (!failed && before != *slept);
    return failed;
}

int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until) {
    static int (*wait)(sem_t *, clockid_t, const struct timespec *);
    if (!wait)
        wait = dlsym(RTLD_NEXT, "sem_clockwait");
    if (clock != CLOCK_MONOTONIC)
        return wait(semaphore, clock, until);
    long long before;
    int failed;
    do {
        before = *slept;
        struct timespec real = moved(until, before);
        failed = wait(semaphore, clock, &real);
    } while (failed && errno == ETIMEDOUT && before != *slept);
    return failed;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until) {
    static int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!wait)
        wait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!wait)
        wait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    if (until->tv_sec >= YEARS_30)
        return wait(condition, mutex, until);
    struct timespec real = moved(until, *slept);
    return wait(condition, mutex, &real);
}
