"""Preparation scripts without a host to prepare: their words, their guard, their arithmetic; test_armhost.py runs them for real."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.tools.hosts import E1000E, NVME, PAIR, VF0, VF1, changed, host, plan, vm
from tests.tools.processes import LIMIT
from tests.tools.requests import NASTY, SETS, free, harmless, names
from wizard.base.errors import UsageError
from wizard.export import bind_script, prepare_script
from wizard.host.build import host_of
from wizard.plan.request import FirmwareRequest, HotplugRequest, NodeRequest

LIBRARY = Path(__file__).parents[2] / "wizard/export/prepare.sh"


def words(script: str, tmp_path: Path, *, action: str = "do", plug: str = "") -> list[list[str]]:
    """The calls that a script makes at its end, as bash reads them: its own functions only print their words."""
    head, _, tail = script.partition("if [ $action = remove ]; then")
    named = [line.split("(")[0] for line in head.splitlines() if line.endswith("}") or ("() {" in line and not line.startswith((" ", "#")))]
    functions = sorted({name.strip() for name in named if name.strip().replace("_", "").isalpha()})
    fake = "\n".join(f'{name}() {{ printf "%s\\0" {name} "$@"; printf "\\1\\0"; }}' for name in functions)
    path = tmp_path / "calls"
    path.write_text(f"action={action} dry= plug={plug}\n{fake}\nif [ $action = remove ]; then{tail}", encoding="utf-8")
    done = subprocess.run(["bash", str(path)], capture_output=True, check=True, timeout=LIMIT)
    calls: list[list[str]] = [[]]
    for word in done.stdout.decode().split("\0")[:-1]:
        if word == "\1":
            calls.append([])
        else:
            calls[-1].append(word)
    return calls[:-1]


def test_the_work_is_what_the_plan_says(tmp_path: Path) -> None:
    on = changed(lambda f: replace(f, identity=replace(f.identity, host="host-0123456789abcdef")))
    numa = (NodeRequest(memory=1 << 29, cpus="0", host_node=0), NodeRequest(memory=1 << 29, cpus="1"))
    made = plan(
        vm(NVME, user="qemu", hugepages=2 << 20, numa=numa, firmware=FirmwareRequest(code="/c", vars_template="/t", vars="/v/a b_VARS.fd")),
        vm(*PAIR, name="web", mode="none", user="qemu"),
        on=on,
    )
    calls = words(prepare_script(made, on), tmp_path)
    assert calls[0] == ["check_host", "host-0123456789abcdef"]
    by_name = {name: [call[1:] for call in calls if call[0] == name] for name in {call[0] for call in calls}}
    assert [call[0] for call in by_name["bind"]] == [NVME, *PAIR]
    assert [call[4] for call in by_name["check"]] == [NVME, " ".join(PAIR), " ".join(PAIR)]
    assert by_name["check"][0][:2] == [NVME, "1b36:0010"]
    unit = by_name["hugepages"][0][3]
    assert by_name["hugepages"] == [["0", "2048", "256", unit], ["any", "2048", "256", unit]]
    assert by_name["check_user"] == [["qemu"]]
    assert by_name["give_iommu"] == [["qemu", unit]]
    assert by_name["vars"][0] == ["/t", "/v/a b_VARS.fd", "qemu"]
    # The limit is the sum over the user's VMs: two of 1 GiB, each with a page of pvtime.
    assert int(by_name["memlock"][0][1]) == (2 << 20) + 2 * 4
    assert len(by_name["memlock"]) == 1


def test_vfs_come_first_and_are_compared_before_anything_is_bound(tmp_path: Path) -> None:
    on = host("vfio-arm64-virt-canwbs")
    free_pf = replace(on.facts, functions=tuple(replace(f, driver="igb") if f.address == "0000:11:00.0" else f for f in on.facts.functions))
    made_on = host_of(free_pf)
    made = plan(vm(VF0, VF1), on=made_on)
    assert made.ok
    calls = [call[:2] for call in words(prepare_script(made, made_on), tmp_path)]
    assert calls[:3] == [["make_vfs", "0000:11:00.0"], ["check", VF0], ["check", VF1]]
    assert calls.index(["bind", VF0]) > 2


@settings(max_examples=60, deadline=None)
@given(names, free, free)
def test_no_word_of_a_plan_is_run(name: str, notes: str, path: str) -> None:
    made = plan(replace(SETS["hot-plug"], name=name, notes=notes, firmware=FirmwareRequest(code="/c", vars_template=f"/{path}", vars=f"/v{path}")))
    script = prepare_script(made, host())
    assert subprocess.run(["bash", "-n"], input=script.encode(), check=False, timeout=LIMIT).returncode == 0
    with tempfile.TemporaryDirectory() as scratch:
        calls = words(script, Path(scratch))
    assert ["vars", f"/{path}", f"/v{path}", "root"] in calls
    library = LIBRARY.read_text(encoding="utf-8")
    shown = script.replace(library, "")
    assert harmless(line for line in shown.splitlines() if line.startswith("#"))


def test_bind_only_binds(tmp_path: Path) -> None:
    calls = {call[0] for call in words(bind_script(host(), [NVME, E1000E, "81:00.0"]), tmp_path)}
    assert calls == {"check", "check_free", "load", "bind", "say"}
    for address, says in (("0000:ff:00.0", "no function"), ("0000:10:00.0", "is a bridge"), ("0000:00:01.0", "no IOMMU group")):
        with pytest.raises(UsageError, match=says):
            bind_script(host(), [address])


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=16, max_size=16), st.sampled_from(["smmu-wizard host", "00-11-22-33-44-55-66-77", *NASTY]))
def test_the_scripts_pseudonym_is_the_programs(machine_id: bytes, value: str) -> None:
    """HMAC-SHA256 with coreutils alone."""
    function = LIBRARY.read_text().split("pseudonym() {")[1].split("\n}")[0].replace("[ -r /etc/machine-id ] || return 0", "")
    function = function.replace("id=$(cat /etc/machine-id)", f"id={machine_id.hex()}")
    done = subprocess.run(
        ["bash", "-c", f'pseudonym() {{{function}\n}}\npseudonym "$1"', "x", value], capture_output=True, text=True, check=True, timeout=LIMIT
    )
    assert done.stdout.strip() == hmac.new(machine_id.hex().encode(), value.encode(), hashlib.sha256).hexdigest()


def test_usage_and_root(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(prepare_script(plan(vm(NVME)), host()))
    done = subprocess.run(["bash", str(script), "--what"], capture_output=True, text=True, check=False, timeout=LIMIT)
    assert (done.returncode, "usage:" in done.stderr) == (2, True)


def test_what_may_be_plugged_later_is_bound_when_asked_for(tmp_path: Path) -> None:
    made = plan(vm(NVME, user="qemu", hotplug=(HotplugRequest(functions=(VF0, E1000E)),)))
    script = prepare_script(made, host())
    assert [call[1] for call in words(script, tmp_path) if call[0] == "bind"] == [NVME]
    for function in (VF0, E1000E):
        calls = words(script, tmp_path, action="plug", plug=function)
        assert [call[:2] for call in calls[-4:]] == [["check", function], ["check_free", function], ["bind", function], ["give_function", "qemu"]]
    assert words(script, tmp_path, action="plug", plug=NVME)[-1] == ["stop", f"{NVME} is none of the functions that may be plugged."]
    undone = [call[1] for call in words(script, tmp_path, action="undo") if call[0] == "undo_bind"]
    assert set(undone) == {NVME, VF0, E1000E}


class Fake:
    """A small /sys and /proc for the library's own checks: what armhost's kernel has no driver for."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.device = self.make("sys/devices/pci0000:10/0000:14:00.0")
        self.link("sys/bus/pci/devices/0000:14:00.0", self.device)
        for name in ("mountinfo", "swaps", "route", "ipv6_route"):
            self.write(f"proc/{name}", "")

    def make(self, path: str) -> Path:
        made = self.top / path
        made.mkdir(parents=True, exist_ok=True)
        return made

    def link(self, path: str, to: Path) -> None:
        made = self.top / path
        made.parent.mkdir(parents=True, exist_ok=True)
        made.symlink_to(to)

    def write(self, path: str, text: str) -> None:
        self.make(str(Path(path).parent))
        (self.top / path).write_text(text)

    def disk(self, at: Path, number: str) -> None:
        """A block device ``at`` with one partition."""
        for one, minor in ((at, f"{number}:0"), (at / f"{at.name}p1", f"{number}:1")):
            self.write(str((one / "dev").relative_to(self.top)), minor + "\n")
            self.make(str((one / "holders").relative_to(self.top)))
            self.link(f"sys/class/block/{one.name}", one)
        self.write(str((at / f"{at.name}p1" / "partition").relative_to(self.top)), "1\n")

    def interface(self, at: Path, *uppers: Path) -> Path:
        made = self.make(str(at.relative_to(self.top)))
        self.link(f"sys/class/net/{made.name}", made)
        for upper in uppers:
            (made / f"upper_{upper.name}").symlink_to(upper)
        return made

    def said(self) -> str:
        """What check_free stops with; empty when the function is free."""
        parts = ("prepare_uses.sh", "prepare_devices.sh", LIBRARY.name)
        library = "".join(LIBRARY.with_name(name).read_text(encoding="utf-8") for name in parts).partition("umask 022")[0]
        library = library.replace("/etc/libvirt", f"{self.top}/etc/libvirt")
        library = library.replace("sys=/sys", f"sys={self.top}/sys").replace("/proc/self/", "/proc/").replace("/proc/net/", "/proc/")
        library = library.replace("/proc/", f"{self.top}/proc/")
        script = f"set -euo pipefail\ndry=\n{library}\nzpool() {{ return 1; }}\ncheck_free {NVME} web\n"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=LIMIT)
        assert done.returncode == bool(done.stderr), done.stderr
        return done.stderr.strip().removeprefix("STOP: ")


MOUNT = "36 35 {number} / /mnt rw shared:1 - {kind} {source} rw\n"


def test_a_function_that_nothing_uses_is_free(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    fake.disk(fake.device / "nvme/nvme0/nvme0n1", "259")
    fake.interface(fake.device / "net/eth0")
    fake.write("proc/mountinfo", MOUNT.format(number="8:1", kind="ext4", source="/dev/sda1"))
    fake.write("proc/route", "Iface Destination Gateway Flags RefCnt Use Metric Mask\neth1 00000000 010AA8C0 0003 0 0 0 00000000 0 0 0\n")
    assert not fake.said()


@pytest.mark.parametrize(("number", "kind"), [("259:1", "ext4"), ("0:31", "btrfs")])
@pytest.mark.parametrize("multipath", [False, True])
def test_a_mounted_namespace_is_found(number: str, kind: str, multipath: bool, tmp_path: Path) -> None:
    """Btrfs mounts have a device number of their own; with multipath the namespace hangs below the subsystem."""
    fake = Fake(tmp_path)
    controller = fake.make("sys/devices/pci0000:10/0000:14:00.0/nvme/nvme0")
    if multipath:
        subsystem = fake.make("sys/devices/virtual/nvme-subsystem/nvme-subsys0")
        fake.link("sys/class/nvme-subsystem/nvme-subsys0", subsystem)
        (subsystem / "nvme0").symlink_to(controller)
        fake.disk(subsystem / "nvme0n1", "259")
    else:
        fake.disk(controller / "nvme0n1", "259")
    fake.write("proc/mountinfo", MOUNT.format(number=number, kind=kind, source="/dev/nvme0n1p1"))
    assert fake.said() == f"{NVME} carries a mounted file system (nvme0n1p1). Unmount it first."


def test_other_uses_of_a_disk_are_found(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    fake.disk(fake.device / "nvme/nvme0/nvme0n1", "259")
    fake.write("proc/swaps", "Filename Type Size Used Priority\n/dev/nvme0n1p1 partition 1 0 -2\n")
    assert "carries swap space" in fake.said()
    fake.write("proc/swaps", "")
    fake.make("sys/fs/btrfs/0123/devices/nvme0n1p1")
    assert "a part of a mounted btrfs (nvme0n1p1)" in fake.said()
    (tmp_path / "sys/fs/btrfs/0123/devices/nvme0n1p1").rmdir()
    (fake.device / "nvme/nvme0/nvme0n1/nvme0n1p1/holders/dm-0").mkdir()
    assert "LVM, RAID or encryption on nvme0n1p1" in fake.said()


@pytest.mark.parametrize("v6", [False, True])
def test_the_default_route_is_found_through_a_bridge_on_a_bond(v6: bool, tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    bridge = fake.interface(tmp_path / "sys/devices/virtual/net/br0")
    bond = fake.interface(tmp_path / "sys/devices/virtual/net/bond0", bridge)
    fake.interface(fake.device / "virtio0/net/eth0", bond)
    if v6:
        fake.write("proc/ipv6_route", f"{'0' * 32} 00 {'0' * 32} 00 fe80{'0' * 28} 00000400 00000001 00000000 00000003 br0\n")
    else:
        fake.write("proc/route", "Iface Destination Gateway Flags RefCnt Use Metric Mask\nbr0 00000000 010AA8C0 0003 0 0 0 00000000 0 0 0\n")
    assert fake.said() == f"{NVME} carries the default route (through br0). Give it another way first."
