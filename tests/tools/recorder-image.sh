#!/bin/bash
# Build the recorder's image and run it, in a mount namespace of its own: recorder-image.sh CONTAINERS PYTHON WORK
#
# CONTAINERS is the root of Debian packages with buildah, PYTHON the one with Pythons (scripts/debian-tools), WORK has Containerfile and
# smmu-wizard-record; WORK/host.json is the snapshot. What is built lies in memory and goes with the namespace.
set -euo pipefail
root=$1 python=$2 work=$3
mount --make-rprivate /
mount --bind "$root" "$root"
for place in proc sys dev; do mount --rbind "/$place" "$root/$place"; done
for place in tmp run var/lib/containers; do mount -t tmpfs tmpfs "$root/$place"; done
mkdir "$root/run/work" "$root/run/base" "$root/run/python"
mount --bind "$work" "$root/run/work"
mount --bind -o ro "$python" "$root/run/python"
base=$root/run/base
mkdir "$base"/{proc,sys,dev,etc,tmp}
for link in bin lib lib64 sbin; do ln -s "usr/$link" "$base/$link"; done
cp -a "$python/usr" "$base/usr"
for one in "$base"/usr/bin/python3.[0-9][0-9]; do ln -sf "${one##*/}" "$base/usr/bin/python3"; done # the newest
identity=(); [ ! -e /etc/machine-id ] || { cp /etc/machine-id "$root/run/machine-id"; identity=(-v /run/machine-id:/host/etc/machine-id:ro); }
buildah() { chroot "$root" /usr/bin/buildah --root /var/lib/containers/storage --runroot /run/containers --storage-driver vfs "$@"; }
buildah from --name base scratch > /dev/null
buildah copy -q base /run/base / > /dev/null
buildah commit -q base localhost/base > /dev/null
buildah build -q --isolation chroot --pull=never --build-arg BASE=localhost/base -t localhost/recorder -f /run/work/Containerfile /run/work > /dev/null
# Limits as they are: buildah would raise them, which a machine that is a container itself does not allow.
buildah from --pull=never --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --name one localhost/recorder > /dev/null
buildah run --isolation chroot --network host --cap-add CAP_SYS_ADMIN -v /sys:/host/sys:ro -v /proc:/host/proc:ro "${identity[@]}" one -- \
    python3 /usr/local/bin/smmu-wizard-record --root /host > "$work/host.json"
