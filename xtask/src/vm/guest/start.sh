#!/bin/busybox sh
# The first program on the guest's disk: runs what there is to run. Output goes to the second
# serial line; what was done and how it ended, to the third:
#   up SECONDS               the guest is up, so long after the kernel's start
#   program LINE             a line of `holdup probe`
#   refusal LINE             what holdup said on standard error where the kernel has no types
#   STEP STATUS SECONDS      a step has ended with this exit status
#   end
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t securityfs security /sys/kernel/security 2>/dev/null
$b mount -t tmpfs run /run
$b mkdir -p /dev/pts /dev/shm
$b mount -t devpts pts /dev/pts
$b mount -t tmpfs -o mode=1777 shm /dev/shm
$b ifconfig lo 127.0.0.1 up
for line in 1 2; do
    $b stty -F /dev/ttyS$line raw -echo
done
exec </dev/null >/dev/ttyS1 2>&1 3>/dev/ttyS2
report() { echo "$*" >&3; }
now() { $b cut -d' ' -f1 /proc/uptime; }

. /job
export PATH=/bin HOME=/root
report up "$(now)"

"$holdup" probe >/run/programs 2>/run/errors 3>&-
status=$?
$b cat /run/programs /run/errors
while read -r line; do report program "$line"; done </run/programs
report probe $status "$(now)"

# Programs that are not in memory yet wait for the disk in places where nobody expects it.
$b find / -xdev -type f -exec $b cat {} + >/dev/null
"$live" "$@" 3>&-
report live $? "$(now)"

# A kernel without types: what users run has to refuse, and clearly.
$b mount -t tmpfs none /sys/kernel/btf
"$holdup" record -d 1s -- /bin/sleep 1 >/run/report 2>/run/errors 3>&-
status=$?
$b cat /run/report /run/errors
[ ! -s /run/report ] || report refusal "(wrote to standard output)"
while read -r line; do report refusal "$line"; done </run/errors
report record $status "$(now)"
report end
$b sync
$b poweroff -f
