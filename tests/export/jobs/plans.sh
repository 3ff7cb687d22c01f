# Plans on a live host: preparation scripts and their undo, VFs that they make, and the two cases that must be refused and do fail.
# Boot with --canwbs --inner --mem 4G --vfs 0. Each step leaves NAME.out, NAME.err and NAME.status in /out.
mkdir -p /root/vm; cd /root/vm || exit
[ -s /etc/machine-id ] || echo 0123456789abcdef0123456789abcdef > /etc/machine-id

step() { # NAME COMMAND...
    local name=$1; shift
    "$@" > "/out/$name.out" 2> "/out/$name.err" < /dev/null; echo $? > "/out/$name.status"
}
cat > make.py <<'P'
"""make.py SNAPSHOT OUT FORMAT key=value… FUNCTION…: an export of a plan, whether it was refused or not; says what was refused."""
import sys
from wizard.export import bind_script, prepare_script, qemu_script
from wizard.facts.snapshot import load
from wizard.host.build import host_of
from wizard.plan.planner import make_plan
from wizard.plan.request import FunctionRequest, Properties, Request, VmRequest
snapshot, out, form, *words = sys.argv[1:]
host = host_of(load(snapshot))
values = dict(word.split("=", 1) for word in words if "=" in word)
functions = [word for word in words if "=" not in word]
auto = Properties(ats="auto", ril="auto", ssidsize="auto", oas="auto", cmdqv="auto") if values.pop("properties", "") == "auto" else Properties()
request = VmRequest(name="guest", cpus=1, memory=768 << 20, properties=auto, functions=tuple(FunctionRequest(host=f) for f in functions), **values)
plan = make_plan(host, Request(vms=(request,)))
print(*(finding.code for finding in plan.errors))
text = bind_script(host, functions) if form == "bind" else prepare_script(plan, host) if form == "prepare" else qemu_script(plan.vms[0])
open(out, "w").write(text)
P
make() { python3 make.py "$@"; }
state() {
    for f in 0000:14:00.0 0000:81:00.0 0000:81:00.1 0000:11:10.0 0000:11:10.2; do
        [ -e /sys/bus/pci/devices/$f ] || { echo "$f none"; continue; }
        echo "$f $(basename "$(readlink /sys/bus/pci/devices/$f/driver)" 2>/dev/null) $(cat /sys/bus/pci/devices/$f/driver_override)"
    done
    echo "vfs $(cat /sys/bus/pci/devices/0000:11:00.0/sriov_numvfs) $(cat /sys/bus/pci/devices/0000:11:00.0/sriov_drivers_autoprobe)"
    echo "pages $(cat /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages)"
    cat /etc/security/limits.d/smmu-wizard-* 2>/dev/null
    stat -c '%n %U' /dev/vfio/devices/* /dev/iommu 2>/dev/null
}
inner() { # SCRIPT CONSOLE
    timeout 900 bash "$1" -no-reboot -serial "file:/out/$2" -kernel /out/inner/vmlinuz -initrd /out/inner/inner.img \
        -append "console=ttyAMA0 iommu.passthrough=0"
}

step state-before state
step bind make <(python3 -m wizard record) bind.sh bind 0000:14:00.0 0000:81:00.0 0000:81:00.1
step bind-run bash bind.sh
step record python3 -m wizard record --probe --yes -o probed.json
step state-bound state

# VFs that the script makes: the addresses were predicted
step vfs make probed.json vfs.sh prepare user=nobody 0000:11:10.0 0000:11:10.2
step vfs-dry bash vfs.sh --dry-run
step state-dry state
step vfs-run bash vfs.sh
step state-vfs state
step vfs-again bash vfs.sh
step vfs-links sh -c 'for f in 0000:11:10.0 0000:11:10.2; do basename "$(readlink -f /sys/bus/pci/devices/$f/physfn)"; basename "$(readlink -f /sys/bus/pci/devices/$f/iommu)"; ls /sys/bus/pci/devices/$f/iommu_group/devices; done'
sed 's/check 0000:11:10.2 8086:10ca/check 0000:11:10.2 8086:1234/' vfs.sh > other-device.sh
step other-device bash other-device.sh
sed "s/^check_host 'host-.*\|^check_host host-.*/check_host host-0123456789abcdef/" vfs.sh > other-host.sh
step other-host bash other-host.sh
step not-root setpriv --reuid 65534 --regid 65534 --clear-groups bash vfs.sh
step vfs-undo bash vfs.sh --undo
step state-undone state

# with auto properties, as exported
step auto make probed.json auto.sh qemu properties=auto 0000:14:00.0
step auto-prepare make probed.json prepare.sh prepare 0000:14:00.0
step auto-prepare-run bash prepare.sh
step auto-inner inner auto.sh console-auto

# sources: problem-31. Refused by the planner, and they do fail
step pair make probed.json pair.sh qemu 0000:81:00.0 0000:81:00.1
step pair-inner inner pair.sh console-pair
step alone make probed.json alone.sh qemu 0000:81:00.0
step alone-inner inner alone.sh console-alone

step unbind bash bind.sh --undo
step state-after state
