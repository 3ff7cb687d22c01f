#!/bin/bash
# A domain of a real libvirt, with a guest that runs and has an agent, looked at by the program as its administrator would. TCG: no function of the host.
#
#   libvirt.sh ROOT WORK GUEST PYTHON    ROOT by scripts/debian-tools --with libvirt, GUEST by --with guest; WORK holds the domains as XML
#
# Each step leaves NAME.out, NAME.err and NAME.status in WORK.
set -euo pipefail
[ "${INSIDE:-}" ] || INSIDE=1 exec unshare --mount --propagation private --pid --fork --kill-child "$0" "$@"
here=$(dirname "$(readlink -f "$0")")
root=$1 work=$2 guest=$3 python=$4
. "$here/../tools/libvirt-root.sh"
mounted
# Where the program looks on a host with libvirt: its logs, and virsh in PATH.
mount -t tmpfs tmpfs /var/log; mkdir -p /var/log/libvirt "$root/var/log/libvirt/qemu"; mount --bind "$root/var/log/libvirt" /var/log/libvirt
mkdir -p "$root/tmp/guest" "$root$work" "$work/bin"; mount --bind "$guest" "$root/tmp/guest"; mount --bind "$work" "$root$work" # a socket has one path
chmod 777 "$work"
printf '#!/bin/sh\nexec chroot %s /usr/bin/env -i LC_ALL=C.UTF-8 HOME=/root /usr/bin/virsh "$@"\n' "$root" > "$work/bin/virsh"; chmod 755 "$work/bin/virsh"
started

step() { # NAME COMMAND...
    local name=$1 status=0; shift
    "$@" > "$work/$name.out" 2> "$work/$name.err" < /dev/null || status=$?
    echo $status > "$work/$name.status"
}
smmu_wizard() { (cd "$here/../.." && PATH=$work/bin:$PATH exec "$python" -m wizard "$@"); }
until_it_is() { local count=0; until "$@" 2> /dev/null; do count=$((count + 1)); [ $count -lt 1200 ] || return 1; sleep 0.2; done; }
answers() { virsh dumpxml zwiebelturm | grep -q "name='org.qemu.guest_agent.0' state='connected'"; } # nothing is marked by that

step start virsh create /tmp/work/domain.xml
until_it_is answers || { tail -n 20 "$work/console" "$work/libvirtd.log" "$root"/var/log/libvirt/qemu/*.log >&2; exit 4; }
step untouched virsh dominfo zwiebelturm
step import smmu_wizard import --running zwiebelturm --demo -o "$work/profiles"
step check smmu_wizard check --running zwiebelturm --demo --json
(cd "$here/../.." && PATH=$work/bin:$PATH exec "$python" -m wizard watch --json --for 60 --log /dev/null > "$work/watch.out" 2> "$work/watch.err" < /dev/null) & watching=$!
until_it_is grep -q '"heard"\|QEMU.s events' "$work/watch.out" "$work/watch.err" || { cat "$work/watch.err" >&2; exit 4; }
virsh suspend zwiebelturm > /dev/null; virsh resume zwiebelturm > /dev/null
until_it_is grep -q RESUME "$work/watch.out" || { cat "$work"/watch.* >&2; exit 4; }
kill $watching; wait $watching && echo 0 > "$work/watch.status" || echo $? > "$work/watch.status"
step listening pgrep -f qemu-monitor-event
step unmarked virsh dominfo zwiebelturm
step verify smmu_wizard verify zwiebelturm --json
step marked virsh dominfo zwiebelturm
sed "s/busNr='8'/busNr='32'/; s/busNr=\"8\"/busNr=\"32\"/" "$work/domain.xml" > "$work/other.xml"
step other smmu_wizard verify "$work/other.xml" --json
step agent smmu_wizard verify zwiebelturm --guest agent --json
step marked-more virsh dominfo zwiebelturm
step blocked smmu_wizard verify zwiebelturm --guest "agent:$work/blocked" --json
step postmortem smmu_wizard verify zwiebelturm --postmortem "$work/postmortem.json"
virsh destroy zwiebelturm > /dev/null
step gone smmu_wizard verify "$work/domain.xml" --json
# accel needs KVM: QEMU does not start it, and libvirt's log says why
step failed virsh create /tmp/work/accel.xml
step never smmu_wizard verify "$work/accel.xml" --json
cp "$root/var/log/libvirt/qemu/zwiebelturm.log" "$work/log"
