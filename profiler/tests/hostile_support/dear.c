/* dear COPIES: every wait of this process has a stack that is as dear to walk as it can be made. COPIES are
 * libraries, separated by spaces, each a copy of the same file (`step.c`): no two frames that call each
 * other have the same module, and each frame has pages of its own. Four pairs of threads wake each other at
 * the end of 240 such frames, two by pipes and two by futexes. Of each two one does so as often
 * as it can, and one after waits that are long enough to be recorded. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FRAMES 240
#define PAIRS 4
#define MAX_COPIES 64
/* Longer than what `--min-block` is by default. */
#define LONG_NS 150000

typedef void (*leaf_fn)(void *);
typedef void (*step_fn)(void **steps, int count, int left, leaf_fn leaf, void *of);

static void *steps[MAX_COPIES];
static int copies;

struct pair {
    int by_futex, is_slow;
    int pipes[2][2];
    volatile int turn;
};
struct side {
    struct pair *pair;
    int index;
};
static struct pair pairs[PAIRS];

static void die(const char *what) { perror(what); exit(1); }

static void pause_for(long nanos) {
    struct timespec time = {0, nanos};
    nanosleep(&time, 0);
}

static void by_pipe(struct side *side) {
    char byte = 0;
    if (side->index == 0 && write(side->pair->pipes[1][1], &byte, 1) != 1) die("write");
    if (read(side->pair->pipes[side->index][0], &byte, 1) != 1) die("read");
    if (side->index == 1 && write(side->pair->pipes[0][1], &byte, 1) != 1) die("write");
}

static void by_futex(struct side *side) {
    volatile int *turn = &side->pair->turn;
    while (*turn != side->index) syscall(SYS_futex, turn, FUTEX_WAIT_PRIVATE, !side->index, 0, 0, 0);
    *turn = !side->index;
    syscall(SYS_futex, turn, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

static void leaf(void *of) {
    struct side *side = of;
    for (;;) {
        if (side->pair->is_slow) pause_for(LONG_NS);
        if (side->pair->by_futex) by_futex(side);
        else by_pipe(side);
    }
}

static void *run(void *of) {
    /* Nothing else in it looks like tokio, and without that it is not recorded. */
    pthread_setname_np(pthread_self(), "tokio-rt-worker");
    ((step_fn)steps[0])(steps, copies, FRAMES, leaf, of);
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    for (char *path = strtok(argv[1], " "); path && copies < MAX_COPIES; path = strtok(0, " ")) {
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!library) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
        steps[copies] = dlsym(library, "step");
        if (!steps[copies++]) return 1;
    }
    for (int index = 0; index < PAIRS; index++) {
        struct pair *pair = &pairs[index];
        pair->by_futex = index & 1;
        pair->is_slow = index & 2;
        if (pipe(pair->pipes[0]) || pipe(pair->pipes[1])) die("pipe");
        for (int of = 0; of < 2; of++) {
            struct side *side = malloc(sizeof *side);
            *side = (struct side){pair, of};
            pthread_t thread;
            if (pthread_create(&thread, 0, run, side)) die("pthread_create");
        }
    }
    puts("ready");
    fflush(stdout);
    pause();
}
