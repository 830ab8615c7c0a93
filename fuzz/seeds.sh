#!/bin/sh
# Makes the seeds that are real ELF files, from a few lines of C, with gcc and binutils. They are
# in the repository: this is only needed for other ones. All other seeds are made by
# profiler/tests/fuzz_support/seeds.rs, or were found by the fuzzer.
set -eu
cd "$(dirname "$0")/seeds/elf"
mkdir -p ../symbols
source='
extern int others(int *, int);
static int depth(int n) { int a[40]; a[n % 40] = n; return n ? others(a, depth(n - 1)) : 1; }
int entry(int n) { char *room = __builtin_alloca(n); room[0] = 1; return depth(n) + room[0]; }
'
built() {
    echo "$source" | gcc -x c -O2 -g0 -nostdlib -shared -fPIC -Wl,--build-id -Wl,-z,noseparate-code "$@" -
}
built -o small.so
built -o ../symbols/lines.so -g1 -gz=none
built -o ../symbols/lines-gz.so -g1 -gz=zlib
built -o frame-pointer.so -fno-omit-frame-pointer -Wl,--hash-style=sysv
built -o header-only.so
# No section headers, as sstrip leaves a file: where they are, and how many.
printf '\0\0\0\0\0\0\0\0' | dd of=header-only.so bs=1 seek=40 conv=notrunc status=none
printf '\0\0\0\0' | dd of=header-only.so bs=1 seek=60 conv=notrunc status=none
chmod 644 ./*.so ../symbols/*.so
