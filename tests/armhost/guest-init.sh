#!/bin/bash
# pid 1 of the emulated host: mounts, udev, the job, power off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
# what systemd makes of /dev besides devtmpfs; bash's <(...) needs /dev/fd
ln -s /proc/self/fd /dev/fd; ln -s fd/0 /dev/stdin; ln -s fd/1 /dev/stdout; ln -s fd/2 /dev/stderr
mount -t devpts devpts /dev/pts; mount -t tmpfs tmpfs /dev/shm; mount -t tmpfs -o mode=755 tmpfs /run; mount -t tmpfs tmpfs /tmp

mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
echo armhost > /proc/sys/kernel/hostname; ip link set lo up
mkdir -p /run/udev /run/lock
echo "armhost: init $(cut -d' ' -f1 /proc/uptime)"
/usr/lib/systemd/systemd-udevd --daemon --resolve-names=never
udevadm trigger --type=subsystems --action=add
udevadm trigger --type=devices --action=add
udevadm settle --timeout=120
echo "armhost: udev settled $(cut -d' ' -f1 /proc/uptime)"
modprobe -a 9pnet_virtio 9p 2>/dev/null
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,ro job /job || echo "armhost: no job share"
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 out /out || echo "armhost: no out share"
arg() { tr ' ' '\n' < /proc/cmdline | sed -n "s/^$1=//p" | tail -1; }
job=$(arg armhost.job); vfs=$(arg armhost.vfs)
modprobe -a iommufd vfio-pci 2>&1
if [ "${vfs:-0}" != 0 ]; then
    for d in /sys/bus/pci/drivers/igb/*/sriov_numvfs; do [ -e "$d" ] && echo "$vfs" > "$d"; done
    udevadm settle --timeout=60
fi
echo "armhost: job $job at $(cut -d' ' -f1 /proc/uptime)"
if [ -e /job/program.tar ]; then
    mkdir -p /opt/program; tar -C /opt/program -xf /job/program.tar; export PYTHONPATH=/opt/program
fi
if [ -n "$job" ] && [ -e "/job/$job" ]; then
    cd /root || exit
    case $job in *.py) set -- python3 "/job/$job" ;; *) set -- bash "/job/$job" ;; esac
    "$@" > /out/.job.stdout 2> /out/.job.stderr < /dev/null; rc=$?
else
    rc=127; echo "no /job/$job" > /out/.job.stderr
fi
echo $rc > /out/.job.rc
echo "armhost: job ended rc=$rc at $(cut -d' ' -f1 /proc/uptime)"
sync
umount /out 2>/dev/null
busybox poweroff -f
