#!/bin/sh
# The inner VM that goes on: what its own init does, and then reads from the assigned NVMe for as long as that is there (or three minutes).
b=/bin/busybox
$b sed '$d' /init > /first # all but the end, which switches off
. /first
i=0
while [ -b /dev/nvme0n1 ] && [ $i -lt 1800 ]; do
    $b dd if=/dev/nvme0n1 of=/dev/null bs=4096 count=16 skip=$((i % 64 * 16)) iflag=direct 2>/dev/null
    $b usleep 100000; i=$((i + 1))
done
echo INNER-LET-GO; $b ls /sys/bus/pci/devices; $b poweroff -f
