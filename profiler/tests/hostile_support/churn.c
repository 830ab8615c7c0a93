/* churn UID: a process of 60,000 mappings of code, of which it makes some anew all the time. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PAGE 4096ul
#define MAPPINGS 60000ul

static void die(const char *what) { perror(what); exit(1); }

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    int uid = atoi(argv[1]);
    int fd = open("/proc/self/exe", O_RDONLY);
    if (fd < 0) die("/proc/self/exe");
    if (setgroups(0, 0) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)) die("setuid");
    prctl(PR_SET_DUMPABLE, 1);
    char *at = mmap(0, MAPPINGS * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) die("mmap");
    /* All of the second page of the file, which has code: no two are one, and each takes a place. */
    for (unsigned long page = 0; page < MAPPINGS; page++)
        if (mmap(at + page * PAGE, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, PAGE) == MAP_FAILED)
            die("mmap of code");
    puts("ready");
    fflush(stdout);
    for (unsigned long page = 0;; page = (page + 1) % MAPPINGS) {
        if (mmap(at + page * PAGE, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, PAGE) == MAP_FAILED)
            die("mmap of code");
        usleep(1000);
    }
}
