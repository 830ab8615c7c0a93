#!/bin/busybox sh
# The guest's first program: loads what reaching the disk takes, and goes on there.
b=/bin/busybox
fail() {
    $b echo "vm-test: $*"
    $b poweroff -f
}
$b mount -t devtmpfs dev /dev
for module in /modules/*; do
    [ ! -e "$module" ] || $b insmod "$module" || $b echo "vm-test: cannot load $module"
done
tries=0
until [ -b /dev/vda ]; do
    tries=$((tries + 1))
    [ "$tries" -le 100 ] || fail "there is no disk"
    $b sleep 0.1
done
$b mount -t ext4 /dev/vda /root || fail "the disk cannot be mounted"
$b mount -o move /dev /root/dev
exec $b switch_root /root /start
