# Preparation scripts among each other and against the host's own uses: what one takes back, and when it stops.
# Boot with --canwbs --vfs 0. Each step leaves NAME.out, NAME.err and NAME.status in /out.
mkdir -p /root/vm; cd /root/vm || exit
[ -s /etc/machine-id ] || echo 0123456789abcdef0123456789abcdef > /etc/machine-id

step() { # NAME COMMAND...
    local name=$1; shift
    "$@" > "/out/$name.out" 2> "/out/$name.err" < /dev/null; echo $? > "/out/$name.status"
}
cat > make.py <<'P'
"""make.py: every script of this job, from one record of this host."""
from wizard.export import bind_script, prepare_script
from wizard.facts.snapshot import load
from wizard.host.build import host_of
from wizard.plan.planner import make_plan
from wizard.plan.request import FunctionRequest, HotplugRequest, Request, VmRequest
host = host_of(load("host.json"))
def write(name, *functions, **values):
    vm = VmRequest(name=name, functions=tuple(FunctionRequest(host=f) for f in functions), assume_accel=True, **values)
    plan = make_plan(host, Request(vms=(vm,)))
    print(name, *(finding.code for finding in plan.errors))
    open(f"{name}.sh", "w").write(prepare_script(plan, host))
pages = {"memory": 64 << 20, "hugepages": 2 << 20, "user": "nobody"}
write("one", "0000:14:00.0", **pages)
write("two", "0000:41:00.0", **pages)
write("stranger", "0000:14:00.0", user="nosuchuser")
write("vf1", "0000:11:10.0")
write("vf2", "0000:11:10.2")
write("plug", "0000:14:00.0", user="nobody", hotplug=(HotplugRequest(functions=("0000:11:10.0",)),))
open("bind.sh", "w").write(bind_script(host, ["0000:14:00.0", "0000:81:00.0", "0000:81:00.1"]))
P
state() {
    for f in 0000:14:00.0 0000:41:00.0 0000:81:00.0 0000:81:00.1 0000:11:10.0 0000:11:10.2; do
        [ -e /sys/bus/pci/devices/$f ] || { echo "$f none"; continue; }
        echo "$f $(basename "$(readlink /sys/bus/pci/devices/$f/driver)" 2>/dev/null) $(cat /sys/bus/pci/devices/$f/driver_override)"
    done
    echo "vfs $(cat /sys/bus/pci/devices/0000:11:00.0/sriov_numvfs) $(cat /sys/bus/pci/devices/0000:11:00.0/sriov_drivers_autoprobe)"
    echo "pages $(cat /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages)"
    echo "locked $(sed -n 's/.* hard memlock //p' /etc/security/limits.d/smmu-wizard-nobody.conf 2>/dev/null)"
    echo "iommu $(stat -c %U /dev/iommu)"
    for f in 0000:14:00.0 0000:41:00.0 0000:11:10.0; do echo "owner-$f $(for v in /sys/bus/pci/devices/$f/vfio-dev/*; do [ -e "$v" ] && stat -c %U "/dev/vfio/devices/${v##*/}"; done)"; done
}
step record python3 -m wizard record -o host.json
step make python3 make.py
step state-before state

# the host's own uses: swap on an NVMe namespace, and the default route
mkswap /dev/nvme0n1; swapon /dev/nvme0n1
step swap bash bind.sh
swapoff /dev/nvme0n1
interface=$(ls /sys/bus/pci/devices/0000:81:00.0/net)
ip address add 192.0.2.1/24 dev "$interface"; ip link set "$interface" up; ip route add default via 192.0.2.2 dev "$interface"
step route bash bind.sh
ip address flush dev "$interface"; ip route flush default
ip link set "$interface" down
step state-refused state

# a step that fails half-way, and its undo
sed 's/^bind 0000:81:00.1 .*/bind 0000:81:00.1 no_such_driver/' bind.sh > half.sh
step half bash half.sh
step state-half state
step half-undo bash half.sh --undo
step state-half-undone state

# a function that is open is not taken away
bash bind.sh > /dev/null
python3 -c 'import glob, os, time; os.open(glob.glob("/dev/vfio/devices/vfio*")[0], os.O_RDWR); time.sleep(600)' & holder=$!
# shellcheck disable=SC2010 # names of links
while kill -0 $holder && ! ls -l /proc/$holder/fd | grep -q /dev/vfio/devices/; do sleep 0.2; done
step open bash bind.sh --undo
kill $holder; wait $holder
step open-undo bash bind.sh --undo
step state-open-undone state

# hugepages, locked memory and /dev/iommu belong to two scripts
for name in one two; do step $name bash $name.sh; done
step state-both state
step again bash one.sh
step one-undo bash one.sh --undo
step state-two state
step two-undo bash two.sh --undo
step state-none state
step stranger bash stranger.sh

# two VMs with a VF of the same PF each
step vf1-first bash vf1.sh
step vf2-second bash vf2.sh
bash vf1.sh --undo > /dev/null
step vf2 bash vf2.sh
step vf1 bash vf1.sh
step state-vfs state
step vf2-undo bash vf2.sh --undo
step state-vf1 state
step vf1-undo bash vf1.sh --undo
step state-no-vfs state

# what may be plugged later
step plug bash plug.sh
step state-plug-before state
step plug-other bash plug.sh --plug 0000:41:00.0
step plug-one bash plug.sh --plug 0000:11:10.0
step state-plugged state
step plug-undo bash plug.sh --undo
step state-unplugged state

# at every boot
step install bash one.sh --install-unit
step installed find /etc/systemd/system /usr/local/libexec -name 'smmu-wizard-*'
step piped sh -c 'bash -s -- --install-unit < one.sh'
unit=$(ls /usr/local/libexec)
step from-unit "/usr/local/libexec/$unit"
step remove bash one.sh --remove-unit
step removed find /etc/systemd/system /usr/local/libexec -name 'smmu-wizard-*'
step one-end bash one.sh --undo
step state-after state
