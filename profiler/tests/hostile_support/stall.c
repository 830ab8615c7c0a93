/* stall MODE DIR UID [FILE]: a process with threads that stand on memory that nobody serves. Started as
 * root, it is UID's when it says `ready`.
 *
 * MODE `userfaultfd`: a lock's word, too, is in such memory. `fuse`: the memory is a file of a file
 * system, mounted at DIR, that takes requests and does not answer. A number: it answers each
 * after so many milliseconds. `library`: FILE is loaded out of such a file system, which everybody may
 * read. It answers all who read until it is loaded, and from then on no page fault. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/fuse.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define PAGES 512ul

/* Waits for ever with its stack at `sp`, which it does not touch. */
void stand_on(void *sp);
__asm__(".text\n.globl stand_on\n.type stand_on,@function\nstand_on:\n.cfi_startproc\n"
        "mov %rdi, %rsp\n1: mov $34, %eax\nsyscall\njmp 1b\n.cfi_endproc\n"
        ".size stand_on, . - stand_on\n");

static void die(const char *what) { perror(what); exit(1); }

static int faults;

static char *unserved(void) {
    int fd = faults = syscall(SYS_userfaultfd, O_CLOEXEC);
    if (fd < 0) die("userfaultfd");
    struct uffdio_api api = {.api = UFFD_API};
    if (ioctl(fd, UFFDIO_API, &api)) die("UFFDIO_API");
    char *at = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register range = {.range = {(unsigned long)at, PAGES * PAGE},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (ioctl(fd, UFFDIO_REGISTER, &range)) die("UFFDIO_REGISTER");
    return at;
}

/* Serves the first page, with a lock that is taken and waited for. */
static void word_of(char *at) {
    static int page[PAGE / sizeof(int)] __attribute__((aligned(4096))) = {2};
    struct uffdio_copy copy = {.dst = (unsigned long)at, .src = (unsigned long)page, .len = PAGE};
    if (ioctl(faults, UFFDIO_COPY, &copy)) die("UFFDIO_COPY");
}

static void answer(int fd, const struct fuse_in_header *to, int error, const void *body, size_t len) {
    char out[70000];
    struct fuse_out_header head = {.len = sizeof head + len, .error = error, .unique = to->unique};
    memcpy(out, &head, sizeof head);
    memcpy(out + sizeof head, body, len);
    if (write(fd, out, head.len) < 0) { /* who asked is gone */ }
}

/* What the file has, where that is not zeros, and whether pages of it may still be read. */
static const char *content;
static size_t length = PAGES * PAGE;
static volatile int *served;

static void answer_read(int fd, const struct fuse_in_header *head, const struct fuse_read_in *asked) {
    static const char zeros[65536];
    /* Pages are read for who mapped it. Others open it first, and read past the page cache. */
    if (content && asked->fh == 1 && !*served) return;
    size_t size = asked->size < sizeof zeros ? asked->size : sizeof zeros;
    size_t left = asked->offset < length ? length - asked->offset : 0;
    if (size > left) size = left;
    answer(fd, head, 0, content ? content + (length - left) : zeros, size);
}

/* One file, of inode 2. Reads are answered after `delay` milliseconds; never where that is -1. */
static void serve(int fd, long delay) {
    static char in[1 << 20];
    for (;;) {
        ssize_t got = read(fd, in, sizeof in);
        if (got < 0) { if (errno == EINTR || errno == ENOENT) continue; exit(0); }
        struct fuse_in_header *head = (void *)in;
        void *body = in + sizeof *head;
        struct fuse_attr file = {.ino = 2, .size = length, .mode = S_IFREG | 0666, .nlink = 1};
        struct fuse_attr root = {.ino = 1, .mode = S_IFDIR | 0777, .nlink = 2};
        switch (head->opcode) {
        case FUSE_INIT: {
            struct fuse_init_in *asked = body;
            struct fuse_init_out out = {.major = 7, .minor = 31, .max_readahead = 0, .max_write = 65536,
                                        .flags = asked->flags & FUSE_ASYNC_READ};
            answer(fd, head, 0, &out, sizeof out);
            break;
        }
        case FUSE_LOOKUP: {
            struct fuse_entry_out out = {.nodeid = 2, .entry_valid = 1000, .attr_valid = 1000, .attr = file};
            answer(fd, head, 0, &out, sizeof out);
            break;
        }
        case FUSE_GETATTR: {
            struct fuse_attr_out out = {.attr_valid = 1000, .attr = head->nodeid == 1 ? root : file};
            answer(fd, head, 0, &out, sizeof out);
            break;
        }
        case FUSE_OPEN: {
            struct fuse_open_out out = {.fh = content && !*served ? 2 : 1,
                                         .open_flags = content ? FOPEN_DIRECT_IO : 0};
            answer(fd, head, 0, &out, sizeof out);
            break;
        }
        case FUSE_READ: {
            if (delay < 0) break;
            struct timespec t = {delay / 1000, delay % 1000 * 1000000};
            nanosleep(&t, 0);
            answer_read(fd, head, body);
            break;
        }
        case FUSE_FORGET: case FUSE_BATCH_FORGET: case FUSE_INTERRUPT: break;
        default: answer(fd, head, -ENOSYS, 0, 0);
        }
    }
}

static void be(int uid) {
    if (setgroups(0, 0) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)) die("setuid");
    /* As a program of that user's own is. */
    prctl(PR_SET_DUMPABLE, 1);
}

static void mount_fuse(const char *dir, int uid, long delay) {
    /* It goes with this process. */
    if (unshare(CLONE_NEWNS) || mount("none", "/", 0, MS_REC | MS_PRIVATE, 0)) die("unshare");
    int fd = open("/dev/fuse", O_RDWR);
    if (fd < 0) die("/dev/fuse");
    char options[128];
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%d,group_id=%d%s", fd, uid, uid,
             content ? ",allow_other" : "");
    if (mount("stall", dir, "fuse", MS_NOSUID | MS_NODEV, options)) die("mount");
    pid_t parent = getpid();
    if (fork() == 0) {
        /* Before that, since only this user's processes may end each other so. */
        be(uid);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) exit(0);
        prctl(PR_SET_NAME, "server");
        /* What waits for it could be the whole host. */
        alarm(60);
        serve(fd, delay);
    }
    close(fd);
}

static void *stand(void *sp) { stand_on(sp); return 0; }

static void *lock(void *word) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 2, 0, 0, 0);
    return 0;
}

/* Loads `path` out of a file system of our own. */
static void load(const char *path, const char *dir, int uid) {
    int fd = open(path, O_RDONLY);
    struct stat stat;
    if (fd < 0 || fstat(fd, &stat)) die(path);
    length = stat.st_size;
    content = mmap(0, length, PROT_READ, MAP_PRIVATE, fd, 0);
    served = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (content == MAP_FAILED || served == MAP_FAILED) die("mmap");
    *served = 1;
    mount_fuse(dir, uid, 0);
    be(uid);
    char name[4096];
    snprintf(name, sizeof name, "%s/file.so", dir);
    if (!dlopen(name, RTLD_NOW)) { fprintf(stderr, "%s\n", dlerror()); exit(1); }
    *served = 0;
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}

int main(int argc, char **argv) {
    if (argc == 5) load(argv[4], argv[2], atoi(argv[3]));
    if (argc != 4) return 2;
    const char *mode = argv[1];
    int uid = atoi(argv[3]);
    char *at;
    if (!strcmp(mode, "userfaultfd")) {
        at = unserved();
        be(uid);
    } else {
        long delay = !strcmp(mode, "fuse") ? -1 : atol(mode);
        mount_fuse(argv[2], uid, delay);
        be(uid);
        char path[4096];
        snprintf(path, sizeof path, "%s/file", argv[2]);
        int fd = open(path, O_RDONLY);
        if (fd < 0) die(path);
        at = mmap(0, PAGES * PAGE, PROT_READ, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED) die("mmap");
        /* One page at a time, and each is waited for. */
        madvise(at, PAGES * PAGE, MADV_RANDOM);
    }
    pthread_t t;
    if (!strcmp(mode, "userfaultfd")) {
        /* Who waits at a word has read it. After that it is not there any more. */
        word_of(at);
        pthread_create(&t, 0, lock, at);
        usleep(100000);
        madvise(at, PAGE, MADV_DONTNEED);
    }
    for (unsigned long page = 1; page < PAGES; page += 8)
        pthread_create(&t, 0, stand, at + page * PAGE + 64);
    usleep(100000);
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}
