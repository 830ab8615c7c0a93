/* neighbour CPU: for each line of its standard input does the same work as the time before, on that CPU, and
 * prints the nanoseconds that it took: by the clock, and of CPU time. It computes in memory that the caches
 * hold, makes system calls, and has two threads that wake each other through pipes. With real-time
 * priority, nobody else's work is in these figures but the kernel's. It switches some 25,000 times a second: the
 * programs at each switch of anybody cost it a percent at most, whatever the target does (docs/cost.md). */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 2200
#define WORDS (16 << 10)
/* In each round. */
#define COMPUTED 40000
#define CALLS 20

static int there[2], back[2];
static uint64_t words[WORDS];

static void die(const char *what) { perror(what); exit(1); }

static void *peer(void *x) {
    char byte;
    /* So that it can be recorded itself. */
    pthread_setname_np(pthread_self(), "tokio-rt-worker");
    while (read(there[0], &byte, 1) == 1)
        if (write(back[1], &byte, 1) != 1) die("write");
    return x;
}

static uint64_t computed(uint64_t seed) {
    for (int step = 0; step < COMPUTED; step++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        words[seed % WORDS] += seed;
    }
    return seed;
}

static long long nanos(clockid_t clock) {
    struct timespec time;
    if (clock_gettime(clock, &time)) die("clock_gettime");
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    cpu_set_t own;
    CPU_ZERO(&own);
    CPU_SET(atoi(argv[1]), &own);
    if (sched_setaffinity(0, sizeof own, &own)) die("sched_setaffinity");
    struct sched_param priority = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_FIFO, &priority)) die("SCHED_FIFO");
    if (pipe(there) || pipe(back)) die("pipe");
    pthread_t thread;
    if (pthread_create(&thread, 0, peer, 0)) die("pthread_create");
    puts("ready");
    fflush(stdout);
    uint64_t seed = 88172645463325252;
    for (char line[16]; fgets(line, sizeof line, stdin);) {
        long long wall = nanos(CLOCK_MONOTONIC), cpu = nanos(CLOCK_PROCESS_CPUTIME_ID);
        for (int round = 0; round < ROUNDS; round++) {
            char byte = 0;
            seed = computed(seed);
            for (int call = 0; call < CALLS; call++) syscall(SYS_getppid);
            if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) die("ping-pong");
        }
        cpu = nanos(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        wall = nanos(CLOCK_MONOTONIC) - wall;
        printf("%lld %lld\n", wall, cpu);
        fflush(stdout);
    }
}
