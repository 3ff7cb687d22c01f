"""Preparation scripts as exported, run as root in a mount namespace of their own against a fake /sys (``bed/``): do, undo, undo again.

The bed's ``kernel`` behaves as bind, unbind, driver_override and sriov_numvfs do; every program that changes something can be made to
fail, or the script to be killed there. What is there at the end is compared with what was there before: files, owners, modes, ACLs, contents.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.tools.cache import skip_loudly
from tests.tools.hosts import E1000E, NVME, VF0, facts, plan, vm
from tests.tools.processes import LIMIT
from wizard.export import prepare_script
from wizard.host.build import host_of
from wizard.host.model import Host
from wizard.plan.request import HotplugRequest, VmRequest

BED = Path(__file__).parent / "bed"
PAGES = {"memory": 64 << 20, "hugepages": 2 << 20}


@cache
def on() -> Host:
    """The recorded host before its VFs were made."""
    old = facts("vfio-arm64-virt-canwbs")
    return host_of(replace(old, functions=tuple(replace(f, driver="igb") if f.address == "0000:11:00.0" else f for f in old.functions)))


@pytest.fixture
def bed(tmp_path: Path) -> Path:
    """A directory with the bed and no scripts yet; skips where there can be none."""
    unshare = ["unshare", "-m", "true"]
    if os.geteuid() or not shutil.which("unshare") or subprocess.run(unshare, check=False, capture_output=True, timeout=LIMIT).returncode:
        skip_loudly("preparation scripts can't be run against a fake /sys", "run the tests as root, where mount namespaces are allowed")
    if not shutil.which("setfacl"):
        skip_loudly("what scripts do to ACLs can't be seen", "install acl")
    shutil.copytree(BED, tmp_path / "bed")
    return tmp_path / "bed"


def script(bed: Path, request: VmRequest) -> None:
    """The script of one VM, by its name."""
    made = plan(replace(request, user="nobody"), on=on())
    (bed / f"{request.name}.sh").write_text(prepare_script(made, on()))


def run(bed: Path, lines: str, *, limit: int = 900) -> list[str]:
    """What lines of bash print in the bed."""
    (bed / "lines").write_text(lines if lines.startswith(". ") else f'. "$BED/setup"\n{lines}')
    words = ["unshare", "--mount", "--propagation", "private", "bash", str(bed / "lines")]
    done = subprocess.run(words, env={**os.environ, "BED": str(bed)}, capture_output=True, text=True, check=False, timeout=limit)
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()


# Kills at every sixth turn each, of the doing at other ones before the change than after it.
@pytest.mark.parametrize(
    "arguments",
    ["fails do before 1 1", "fails undo before 1 1", "kills do before 1 6", "kills do after 4 6", "kills undo before 3 6", "kills undo after 6 6"],
)
def test_every_change_fails_once_and_undo_finishes(arguments: str, bed: Path) -> None:
    script(bed, vm(NVME, VF0, name="all", hotplug=(HotplugRequest(functions=(E1000E,)),), **PAGES))
    said = run(bed, f'. "$BED/turns" {arguments}')
    assert said[-1].startswith("turns "), "\n".join(said)
    assert len(said) == 1, "\n".join(said)
    assert int(said[-1].split()[1]) > 20


def test_what_the_administrator_had_before_is_there_again(bed: Path) -> None:
    """An ACL with a mask of its own, an owner, limits under the script's own name, a directory, a VF count."""
    script(bed, vm(NVME, name="web", **PAGES))
    said = run(
        bed,
        """
same() { run web > "$BED/log" 2>&1 || cat "$BED/log"; run web --undo >> "$BED/log" 2>&1 || cat "$BED/log"
    undone_state > "$BED/now"; diff "$BED/before" "$BED/now" && echo "same $1"; }
setfacl -m u:nobody:r,u:daemon:rw,m::r /dev/iommu; undone_state > "$BED/before"; same acl
setfacl -m u:nobody:rw /dev/iommu; undone_state > "$BED/before"; same acl-enough
setfacl -b /dev/iommu; chown nobody /dev/iommu; undone_state > "$BED/before"; same owner
chown root /dev/iommu
printf 'nobody hard memlock 77\n# mine\n' > /etc/security/limits.d/smmu-wizard-nobody.conf
chmod 640 /etc/security/limits.d/smmu-wizard-nobody.conf
mkdir -p /run/smmu-wizard/web; chown daemon /run/smmu-wizard/web
undone_state > "$BED/before"; same limits
""",
    )
    assert said == ["same acl", "same acl-enough", "same owner", "same limits"]


def test_without_setfacl_the_owner_comes_back(bed: Path) -> None:
    script(bed, vm(NVME, name="web"))
    said = run(
        bed,
        """
mkdir "$BED/without"
for one in /usr/sbin/* /usr/bin/*; do case ${one##*/} in setfacl | getfacl) ;; *) ln -sf "$one" "$BED/without/";; esac; done
rm "$BED/bin/setfacl"
PATH=$BED/without REAL_PATH=$BED/without
for owner in root nobody; do
    chown $owner /dev/iommu
    run web > "$BED/log" 2>&1 || tail -3 "$BED/log"
    given=$(stat -c %U /dev/iommu)
    run web --undo > "$BED/log" 2>&1 || tail -3 "$BED/log"
    echo "$given $(stat -c %U /dev/iommu)"
done
""",
    )
    assert said == ["nobody root", "nobody nobody"]


@pytest.mark.parametrize(
    ("lines", "hard", "soft"),
    [
        (["limits.d/50.conf nobody - memlock unlimited"], None, None),
        (["limits.d/99.conf nobody - memlock 5000000"], None, None),
        (["limits.conf * hard memlock infinity"], "unlimited", "needed"),
        (["limits.conf @nogroup - memlock 9000000", "limits.d/a.conf * - memlock unlimited"], None, None),
        (["limits.d/a.conf nobody - memlock unlimited", "limits.d/b.conf nobody hard memlock 64"], "needed", "unlimited"),
        (["limits.d/a.conf * - memlock unlimited", "limits.d/b.conf nobody soft memlock 64"], "unlimited", "needed"),
        (["limits.d/a.conf other - memlock unlimited", "limits.d/b.conf nobody - nofile 99999999"], "needed", "needed"),
    ],
)
def test_a_memlock_limit_is_never_lowered(lines: list[str], hard: str | None, soft: str | None, bed: Path) -> None:
    """pam_limits: a line for the user beats one for a group, that one beats *, and the later of two of a kind counts."""
    script(bed, vm(NVME, name="web"))
    asked = "".join(f"echo '{line.partition(' ')[2]}' >> /etc/security/{line.split()[0]}\n" for line in lines)
    said = run(
        bed,
        f"""{asked}
run web > "$BED/log" 2>&1 || cat "$BED/log"
grep "^memlock of" "$BED/log"
awk '{{ print $2, $4 }}' /etc/security/limits.d/smmu* 2> /dev/null""",
    )
    needed = next(line for line in (bed / "web").read_text().splitlines() if line.startswith("memlock nobody")).split()[2]
    written = dict(line.split() for line in said if line.startswith(("hard ", "soft ")))
    given = {"needed": needed, "unlimited": "unlimited"}
    assert written == ({"hard": given[hard], "soft": given[soft]} if hard and soft else {})
    assert ("administrator's" in " ".join(said)) == ("unlimited" in (hard, soft) or not hard)


def test_two_scripts_at_the_same_time(bed: Path) -> None:
    script(bed, vm(NVME, name="one", **PAGES))
    script(bed, vm(E1000E, name="two", **PAGES))
    said = run(
        bed,
        """
undone_state > "$BED/before"
pages() { cat /sys/kernel/mm/hugepages/*/nr_hugepages; awk '/hard/ { print $4 }' /etc/security/limits.d/*.conf; }
bash "$BED/one" > "$BED/log" 2>&1; bash "$BED/two" > "$BED/log" 2>&1; alone=$(pages)
for turn in 1 2 3 4 5; do
    PATH=$BED/bin:$PATH "$BED/one" --undo > "$BED/log1" 2>&1 & PATH=$BED/bin:$PATH "$BED/two" --undo > "$BED/log2" 2>&1 & wait
    undone_state | diff "$BED/before" - && echo undone
    PATH=$BED/bin:$PATH "$BED/one" > "$BED/log1" 2>&1 & PATH=$BED/bin:$PATH "$BED/two" > "$BED/log2" 2>&1 & wait
    [ "$(pages)" = "$alone" ] && echo both
done
""".replace('bash "$BED/one" >', "run one >").replace('bash "$BED/two" >', "run two >"),
    )
    assert said == ["undone", "both"] * 5


def test_units_start_in_the_order_in_which_they_were_installed(bed: Path) -> None:
    for name, function in (("a", NVME), ("b", E1000E), ("c", VF0)):
        script(bed, vm(function, name=name))
    said = run(
        bed,
        """
order() { for unit in /etc/systemd/system/smmu-wizard-*.service; do
    sed -n 's/^After=[^ ]* [^ ]*//p' "$unit" | sed 's/smmu-wizard-\\(.\\)-[0-9a-f]*.service/\\1/g' |
        sed "s/^/$(basename "$unit" | cut -c 13):/"; done; }
for name in a b c; do run $name --install-unit > "$BED/log" 2>&1 || cat "$BED/log"; done; order
run a --undo > "$BED/log" 2>&1; echo; order
run a --install-unit > "$BED/log" 2>&1; run b --install-unit > "$BED/log" 2>&1; echo; order
systemd-analyze verify /etc/systemd/system/smmu-wizard-*.service 2>&1 | grep smmu-wizard
""",
    )
    assert said == ["a:", "b: a", "c: a b", "", "b:", "c: b", "", "a: b c", "b:", "c: b"]


def test_a_function_that_is_open_is_named_with_its_process(bed: Path) -> None:
    script(bed, vm(NVME, name="web"))
    said = run(
        bed,
        """
d=/sys/devices/pci/0000:14:00.0
mkdir -p $d/drm/card1 /dev/dri; echo 226:1 > $d/drm/card1/dev; echo DEVNAME=dri/card1 > $d/drm/card1/uevent; : > /dev/dri/card1
undone_state > "$BED/before"
sleep 300 < /dev/dri/card1 & holder=$!
run web 2>&1 | tail -1
undone_state | diff "$BED/before" - && echo untouched
kill $holder; wait $holder 2>/dev/null
mkdir -p /sys/bus/pci/drivers/nvidia; : > /sys/bus/pci/drivers/nvidia/unbind; rm -r $d/drm $d/driver
ln -s /sys/bus/pci/drivers/nvidia $d/driver; : > /dev/nvidia0
sleep 300 < /dev/nvidia0 & holder=$!
run web 2>&1 | tail -1
kill $holder; wait $holder 2>/dev/null
run web > "$BED/log" 2>&1 && echo bound
""",
    )
    assert said[0].startswith("STOP: 0000:14:00.0 is in use: process ")
    assert "(sleep" in said[0]
    assert "has /dev/dri/card1 open" in said[0]
    assert said[1] == "untouched"
    assert "has /dev/nvidia0 open" in said[2]
    assert said[3] == "bound"


def test_an_unbind_that_does_not_return_is_reported_and_known_later(bed: Path) -> None:
    script(bed, vm(NVME, name="web"))
    said = run(
        bed,
        """
sed -i -e 's/^patience=60 /patience=1 /' -e 's/ -t 5 said / -t 1 said /' -e 's/flock -w 5 8 /flock -w 1 8 /' "$BED/web"
[ "$(grep -c -e '^patience=1 ' -e ' -t 1 said ' -e 'flock -w 1 8 ' "$BED/web")" = 3 ] || exit
echo '*/driver/unbind' > "$BED/hangs"
run web 2>&1 | grep -e 'takes its time' -e STOP; rm "$BED/hangs"
run web --undo 2>&1 | grep -o "an earlier write to its driver has not come back"
kill "$(pgrep -x -f 'sleep 1000')"
run web --undo > "$BED/log" 2>&1 && echo undone
""",
    )
    assert "takes its time" in said[0]
    assert "boot the host again" in said[1]
    assert said[2:] == ["an earlier write to its driver has not come back", "undone"]


def test_links_are_not_followed(bed: Path) -> None:
    """Planted before the script runs, in places that others than root have; and by the VM's user in its own directory."""
    for name in ("web", "dots"):
        script(bed, vm(NVME, name=name, hotplug=(HotplugRequest(functions=(E1000E,)),)))
    dots = (bed / "dots.sh").read_text()
    (bed / "dots.sh").write_text(dots.replace("/run/smmu-wizard/dots nobody", "/run/smmu-wizard/../victim nobody"))
    said = run(
        bed,
        """
mkdir /run/victim; victim() { stat -c '%U %a' /run/victim; ls -A /run/victim; }
tell() { tail -1 "$BED/log"; victim; }
ln -s /run/victim /run/smmu-wizard; run web > "$BED/log" 2>&1; tell; rm /run/smmu-wizard
mkdir /run/smmu-wizard; ln -s /run/victim /run/smmu-wizard/web; run web > "$BED/log" 2>&1; tell; rm /run/smmu-wizard/web
chown nobody /run/smmu-wizard; run web > "$BED/log" 2>&1; tell; chown root /run/smmu-wizard
mkdir /var/lib/smmu-wizard; ln -s /run/victim/file /var/lib/smmu-wizard/web_VARS.fd; run web > "$BED/log" 2>&1; tell
rm /var/lib/smmu-wizard/web_VARS.fd
chmod 600 /var/lib/aavmf/AAVMF_VARS.fd; run web > "$BED/log" 2>&1; tell; chmod 644 /var/lib/aavmf/AAVMF_VARS.fd
run dots > "$BED/log" 2>&1; tell
run web > "$BED/log" 2>&1; tell
rm -rf /run/smmu-wizard-state; ln -s /run/victim /run/smmu-wizard-state; run web > "$BED/log" 2>&1; tell
""",
    )
    words = [
        "is a link",
        "is a link",
        "does not belong to root",
        "is a link",
        "that every user may read",
        "not the directory of a VM",
        "done",
        "is a link",
    ]
    assert len(said) == 2 * len(words)
    for line, word in zip(said[::2], words, strict=True):
        assert word in line
    assert set(said[1::2]) == {"root 755"}


def test_the_boot_display_is_not_taken(bed: Path) -> None:
    script(bed, vm(NVME, name="web"))
    said = run(
        bed,
        """
undone_state > "$BED/before"
mkdir -p /sys/bus/platform/{devices,drivers/simple-framebuffer} /sys/devices/platform/simple-framebuffer.0
ln -s /sys/devices/platform/simple-framebuffer.0 /sys/bus/platform/devices/
ln -s /sys/bus/platform/drivers/simple-framebuffer /sys/devices/platform/simple-framebuffer.0/driver
run web > "$BED/log" 2>&1 && echo "another shows it"; run web --undo > "$BED/log" 2>&1
echo 1 > /sys/devices/pci/0000:14:00.0/boot_vga; run web 2>&1 | tail -1
rm /sys/devices/platform/simple-framebuffer.0/driver; run web > "$BED/log" 2>&1 && echo "nobody drives it"
""",
    )
    assert (said[0], said[2]) == ("another shows it", "nobody drives it")
    assert "shows the firmware's console (simple-framebuffer.0 on simple-framebuffer)" in said[1]


# What the plan could not know, or what came since: how it is set up, how it goes away, and what the script says.
USES = {
    "a disk that nvmet exports": (
        """mkdir -p $d/nvme/nvme9/nvme9n1 /sys/kernel/config/nvmet/subsystems/s/namespaces/1; echo 259:90 > $d/nvme/nvme9/nvme9n1/dev
: > /dev/nvme9n1; ln -s $d/nvme/nvme9/nvme9n1 /sys/class/block/; cd /sys/kernel/config/nvmet/subsystems/s/namespaces/1
echo /dev/nvme9n1 > device_path; echo 1 > enable""",
        "echo 0 > /sys/kernel/config/nvmet/subsystems/s/namespaces/1/enable", "a target exports to others (nvme9n1",
    ),
    "a VLAN without an address": (
        """mkdir -p $d/net/eth9 /sys/devices/virtual/net/eth9.7; ln -s $d/net/eth9 /sys/class/net/
ln -s /sys/devices/virtual/net/eth9.7 $d/net/eth9/upper_eth9.7""",
        "rm $d/net/eth9/upper_eth9.7", "carries eth9.7, which stands on eth9",
    ),
    "a pool of libvirt": (
        """mkdir -p "$BED/libvirt/networks" /etc/libvirt/qemu; mount --bind "$BED/libvirt" /etc/libvirt/qemu
printf '%s' "<network><name>x</name><forward mode='hostdev'><pf dev='eth9'/></forward></network>" > /etc/libvirt/qemu/networks/fast.xml""",
        "rm /etc/libvirt/qemu/networks/fast.xml", "belongs to a pool of libvirt (fast, of eth9)",
    ),
    "a mediated device": (
        "mkdir -p $d/uuid /sys/bus/mdev/devices; ln -s $d/uuid /sys/bus/mdev/devices/uuid", "rm /sys/bus/mdev/devices/uuid",
        "has a mediated device (uuid)",
    ),
    "a session of an iSCSI card": (
        "mkdir -p $d/host7/session3 /sys/class/iscsi_session; ln -s $d/host7/session3 /sys/class/iscsi_session/",
        "rm /sys/class/iscsi_session/session3", "carries session3 of iSCSI",
    ),
    "the kernel's RDMA": (
        r"""mkdir -p $d/infiniband/mlx5_9; printf '#!/bin/sh\necho link mlx5_8/1 pid 0 comm [svcrdma]\necho link mlx5_9/1 pid 0 comm [rdma_cm]
echo link mlx5_9/1 state CONNECT pid 0 comm [nvme_rdma] src-addr 1.2.3.4:5\n' > "$BED/bin/rdma"; chmod 755 "$BED/bin/rdma" """,
        "rm -r $d/infiniband", "in use for RDMA by the kernel (nvme_rdma on mlx5_9)",
    ),
}  # fmt: skip


def test_what_came_since_the_plan_stops_the_script(bed: Path) -> None:
    """One after the other, each gone before the next; with none of them the function is bound."""
    script(bed, vm(NVME, name="web"))
    tries = "\n".join(f"{there}\nrun web 2>&1 | grep -m 1 STOP\n{gone}" for there, gone, _ in USES.values())
    said = run(bed, f"d=/sys/devices/pci/0000:14:00.0\n{tries}\nrun web > $BED/log 2>&1 && echo bound")
    assert [line for line, (_, _, words) in zip(said, USES.values(), strict=False) if words not in line] == []
    assert said[len(USES) :] == ["bound"]


def test_another_vm_on_vfio_is_named_and_the_same_one_is_no_obstacle(bed: Path) -> None:
    script(bed, vm(NVME, name="web"))
    said = run(
        bed,
        """
run web > "$BED/log" 2>&1 && echo bound
group=$(basename "$(readlink -f /sys/devices/pci/0000:14:00.0/iommu_group)"); : > /dev/vfio/$group; mkfifo "$BED/never"
for name in db web; do
    bash -c 'exec 3<> "$BED/never"; read -t 300 -u 3' qemu -name "guest=$name,debug-threads=on" < /dev/vfio/$group & holder=$!
    until grep -q qemu /proc/$holder/cmdline; do :; done
    run web 2>&1 | tail -n 1
    kill $holder; wait $holder 2>/dev/null
done
""",
    )
    assert said[0] == "bound"
    assert "is in use: process " in said[1]
    assert "End that VM first." in said[1]
    assert said[2] == "done"


def test_a_step_that_fails_says_what_the_kernel_said_and_what_it_means(bed: Path) -> None:
    """Only what came since the script began: the same words from before explain nothing. A program's own words are explained too."""
    script(bed, vm(NVME, name="web"))
    said = run(
        bed,
        """
echo '[   40.1] vfio-pci 0000:11:00.0: Cannot bind to PF with SR-IOV enabled' > "$BED/dmesg.log"
echo '*/drivers_probe' > "$BED/refuse"
echo '[   90.2] vfio-pci 0000:14:00.0: probe with driver vfio-pci failed with error -22
[   90.3] audit: something else' > "$BED/words"
run web 2>&1 >/dev/null
echo; rm "$BED/refuse"
run web --undo > "$BED/log" 2>&1; echo "undone $?"
rm "$BED/bin/modprobe"
printf '%s\\n' '#!/bin/bash' 'echo "modprobe: FATAL: Module vfio-pci not found in directory /lib/modules/7.3.0" >&2; exit 1' > \\
    "$BED/bin/modprobe"
chmod +x "$BED/bin/modprobe"; rm -r /sys/bus/pci/drivers/vfio-pci
run web 2>&1 >/dev/null
""",
    )
    first, second = said[: said.index("")], said[said.index("undone 0") + 1 :]
    assert first[0] == "[   90.2] vfio-pci 0000:14:00.0: probe with driver vfio-pci failed with error -22"
    assert "    may be: The function has no IOMMU group: no SMMU that the kernel uses is above it." in first
    assert first[-1].startswith("STOP: the kernel did not take 0000:14:00.0 for /sys/bus/pci/drivers_probe")
    assert not any("PF with SR-IOV" in line or "audit" in line for line in first)
    assert second[0] == "modprobe: FATAL: Module vfio-pci not found in directory /lib/modules/7.3.0"
    assert second[1] == "    means: The running kernel has no such module."
    assert second[-1].startswith("STOP: modprobe failed.")
