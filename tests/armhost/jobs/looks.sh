#!/bin/sh
# The inner VM that something is wrong with: it waits looks=SECONDS for the assigned NVMe, prints what `verify --guest` reads onto its disk, and reads on.
b=/bin/busybox; export PATH=/bin
$b --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
(for m in nvme-core nvme; do insmod /mod/$m.ko; done) & # its probe takes a minute where no interrupt comes
looks=${looks:-20} # of the kernel's command line: what it does not know it gives its first program as environment
i=0; while [ ! -b /dev/nvme0n1 ] && [ $i -lt $((looks * 10)) ]; do usleep 100000; i=$((i + 1)); done
sh /guest.sh > /told; dd if=/told of=/dev/vda bs=1M 2> /dev/null; sync
echo reads on
while :; do
    [ ! -b /dev/nvme0n1 ] || dd if=/dev/nvme0n1 of=/dev/null bs=4096 count=4 iflag=direct 2> /dev/null
    usleep 300000
done
