"""A VM that was accelerated, as it was recorded on the emulated arm64 host (QEMU 11.1.2, Linux 7.2.13): /proc, sysfs and QEMU's answers.

And the same with one thing wrong each, as docs/sources/running.md has it seen.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.running.servers import GREETING, recorded, serving
from wizard.existing.processes import running
from wizard.running.expected import Expected
from wizard.running.logs import Kernel
from wizard.running.model import VmView
from wizard.running.verify import Found, World, as_started, find, verify
from wizard.running.watch import states
from wizard.running.watch.states import take

DATA = Path(__file__).parent / "data"
NVME = "0000:14:00.0"
Change = Callable[[dict[str, Any]], None]
# The host's own log of that host, of DMA to an address outside of the guest's memory (docs/sources/running.md, failures).
EVENT = """\
[ 9999.000001] arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:
[ 9999.000002] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000140000000010
[ 9999.000003] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000020880000000
[ 9999.000004] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x00000040dead0000
[ 9999.000005] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x00000040dead0000
[ 9999.000006] arm-smmu-v3 arm-smmu-v3.0.auto: event: F_TRANSLATION client: 0000:14:00.0 sid: 0x1400 ssid: 0x0 iova: 0x40dead0000 ipa: 0x40dead0000
[ 9999.000007] arm-smmu-v3 arm-smmu-v3.0.auto: unpriv data read s2 "Input address caused fault" stag: 0x0
""".splitlines()


def world(record: dict[str, Any], directory: Path, *, kernel: tuple[str, ...] = ()) -> World:
    """/proc and /sys as they were. The process has this one's number, so that the socket that is served here is its own."""
    proc, sysfs = directory / "proc", directory / "sys"
    place = proc / str(os.getpid())
    for name in ("fd", "fdinfo", "task"):
        (place / name).mkdir(parents=True)
    (place / "cmdline").write_bytes("".join(f"{word}\0" for word in record["cmdline"]).encode())
    for name in ("stat", "status", "limits", "numa_maps"):
        (place / name).write_text(record[name])
    (place / "maps").write_text("".join(f"{line}\n" for line in record.get("maps", [])))
    for number, target in record["fds"].items():
        os.symlink(target, place / "fd" / number)
        (place / "fdinfo" / number).write_text(record["fdinfo"].get(number, "pos:\t0\n"))
    for thread, status in record["threads"].items():
        (place / "task" / thread).mkdir()
        (place / "task" / thread / "status").write_text(status)
    os.symlink(record.get("exe", "/usr/bin/qemu-system-aarch64"), place / "exe")
    (proc / "interrupts").write_text(record["interrupts"])
    device = sysfs / "devices/pci0000:14" / NVME
    (device / "vfio-dev/vfio0").mkdir(parents=True)
    (device / "power").mkdir()
    for name, value in record["function"].items():
        (device / name).write_text(value)
    (device / "config").write_bytes(bytes.fromhex(record["config"]))
    if record.get("driver", "vfio-pci"):
        os.symlink(f"../../../bus/pci/drivers/{record.get('driver', 'vfio-pci')}", device / "driver")
    for link, target in (("bus/pci/devices/" + NVME, device), ("class/vfio-dev/vfio0/device", device)):
        (sysfs / link).parent.mkdir(parents=True)
        os.symlink(target, sysfs / link)
    for node, cpus in record.get("nodes", {}).items():
        (sysfs / f"devices/system/node/node{node}").mkdir(parents=True)
        (sysfs / f"devices/system/node/node{node}/cpulist").write_text(cpus)
    return World(proc=proc, sys=sysfs, virsh="", kernel=Kernel(lines=kernel), answer=5.0)


def looked(record: dict[str, Any], directory: Path, change: Callable[[Expected], Expected] = lambda one: one, **values: Any) -> VmView:
    seen = world(record, directory, **values)
    (process,) = running(proc=seen.proc, sys=seen.sys)
    with serving(directory / "q", GREETING, recorded(record["qmp"])):
        (vm,) = verify([Found(process=process, expected=change(as_started(process, seen)), socket=str(directory / "q"))], seen)
    return vm


def answers(vm: VmView) -> list[str]:
    return [step.answer.value for step in vm.steps]


def codes(vm: VmView) -> set[str]:
    return {finding.code for finding in vm.findings}


@pytest.fixture
def record() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / "accelerated.json").read_text())
    return copy.deepcopy(found)


def test_as_it_was(record: dict[str, Any], tmp_path: Path) -> None:
    vm = looked(record, tmp_path)
    assert answers(vm) == ["yes", "yes", "not asked"]
    assert codes(vm) == set()
    (function,) = vm.functions
    assert (function.host, function.guest, function.stream_id, function.opened) == (NVME, "0000:09:00.0", 0x900, "iommufd")
    assert vm.memory is not None
    # The guest's memory and QEMU's pvtime page; pinned the same without a vSMMU, and so no answer to any question.
    assert (vm.memory.guest, vm.memory.pinned) == (768 << 20, (768 << 20) + 4096)


def _qmp(name: str, value: Any) -> Change:
    def change(record: dict[str, Any]) -> None:
        for one in record["qmp"]:
            if one["arguments"].get("property") == name and "return" in one:
                one["return"] = value

    return change


def _without_queue(record: dict[str, Any]) -> None:
    record["fds"] = {number: target for number, target in record["fds"].items() if "viommu-event" not in target}


# fs/proc/task_mmu.c, show_map_vma(); 64 KiB at an offset that the kernel gave (iommu_viommu_tegra241_cmdqv.out_vintf_mmap_offset, Linux 6.17)
VINTF = "ffff8c200000-ffff8c210000 rw-s 00000000 00:06 87                         /dev/iommu"
BAR = "ffff8c210000-ffff8c214000 rw-s 00000000 00:05 340                        /dev/vfio/devices/vfio0"


def _cmdqv(record: dict[str, Any]) -> None:
    """QEMU has mapped a VINTF and opened its event queue as it started, and no guest has done anything yet."""
    record["maps"] = [BAR, VINTF]
    record["interrupts"] = record["interrupts"].replace("vfio-msix[0]", "vfio-intx").replace("vfio-msix[1]", "other")


def test_the_event_queue_of_a_cmdqv_is_no_guests(record: dict[str, Any], tmp_path: Path) -> None:
    """QEMU 11.1's tegra241_cmdqv_alloc_viommu() opens it with the vIOMMU; that of a guest's own comes beside it."""
    _cmdqv(record)
    assert answers(looked(record, tmp_path / "before"))[1] == "no"
    record["fds"]["40"] = "anon_inode:[iommufd-viommu-event]"
    assert answers(looked(record, tmp_path / "after"))[1] == "yes"


@pytest.mark.parametrize(
    ("cmdqv", "maps", "said"),
    [
        ("off", [], None),
        ("on", [BAR, VINTF], "CMDQV: 1 VINTF (/proc/PID/maps has /dev/iommu); whether its guest uses it is not known"),
        ("auto", [BAR], "CMDQV: none, QEMU has no page of a VINTF mapped"),
    ],
)
def test_what_is_known_of_a_cmdqv(cmdqv: str, maps: list[str], said: str | None, record: dict[str, Any], tmp_path: Path) -> None:
    record["maps"] = maps
    record["cmdline"] = [word.replace("cmdqv=off", f"cmdqv={cmdqv}") for word in record["cmdline"]]
    (vm,) = take(world(record, tmp_path)).vms.values()
    told = states.cmdqv(vm)
    assert (told or "").startswith(said or "")
    assert (told is None) == (said is None)


def _without_driver(record: dict[str, Any]) -> None:
    _without_queue(record)
    record["interrupts"] = record["interrupts"].replace("vfio-msix[0]", "vfio-intx").replace("vfio-msix[1]", "other")


def _paused(record: dict[str, Any]) -> None:
    _without_driver(record)
    next(one for one in record["qmp"] if one["execute"] == "query-status")["return"] = {"running": False, "status": "prelaunch"}


def _gone(record: dict[str, Any]) -> None:
    record["driver"] = ""
    record["fds"] = {number: f"{target} (deleted)" if "/vfio/devices/" in target else target for number, target in record["fds"].items()}


def _legacy(record: dict[str, Any]) -> None:
    for number, target in list(record["fds"].items()):
        if target == "/dev/iommu" or "viommu-event" in target:
            record["fds"][number] = "/dev/vfio/vfio"
        elif "/vfio/devices/" in target:
            record["fds"][number] = "anon_inode:[vfio-device]"
            record["fdinfo"][number] = f"vfio-device-syspath: /sys/devices/pci0000:14/{NVME}\n"


def _closed(record: dict[str, Any]) -> None:
    record["fds"] = {number: target for number, target in record["fds"].items() if "/vfio/devices/" not in target}


def _stopped(record: dict[str, Any]) -> None:
    head, _, tail = record["stat"].rpartition(")")
    record["stat"] = f"{head}) T{tail[2:]}"


def _other_driver(record: dict[str, Any]) -> None:
    record["driver"] = "nvme"


def _slow(record: dict[str, Any]) -> None:
    record["function"] |= {"current_link_speed": "2.5 GT/s PCIe\n", "max_link_speed": "16.0 GT/s PCIe\n"}


def _no_interrupt(record: dict[str, Any]) -> None:
    """As on the emulated host with a guest whose IORT has no RMR node: asked for, and none comes."""
    lines = record["interrupts"].splitlines()
    record["interrupts"] = "\n".join(re.sub(r"(?<=\s)\d+(?=\s)", "0", line) if "vfio-" in line else line for line in lines)


def _appended(record: dict[str, Any]) -> None:
    record["cmdline"] += ["-append", "console=ttyAMA0 iommu.passthrough=0 iommu.passthrough=on"]


def _appended_off(record: dict[str, Any]) -> None:
    record["cmdline"] += ["-append", "console=ttyAMA0 iommu.passthrough=1 iommu.passthrough=0"]


def _replaced(record: dict[str, Any]) -> None:
    record["exe"] = "/usr/bin/qemu-system-aarch64 (deleted)"


def _far(record: dict[str, Any]) -> None:
    """The function is on node 1, whose processor no virtual CPU may use; the memory is on node 0."""
    record["function"]["numa_node"] = "1\n"
    record["nodes"] = {"0": "0-1\n", "1": "2-3\n"}


WRONG: dict[str, tuple[Change, list[str], set[str]]] = {
    "accel left out": (_qmp("accel", False), ["no", "yes", "no"], {"running-differs", "running-not-accelerated"}),
    "another bus": (_qmp("bus_nr", 32), ["yes", "yes", "not asked"], {"running-differs"}),
    "given by descriptor": (_qmp("host", "ffff:ff:ff.f"), ["yes", "yes", "not asked"], set()),
    "a guest without a driver for the SMMU": (_without_queue, ["yes", "no", "not asked"], {"running-guest-without-smmu"}),
    "firmware runs": (_without_driver, ["yes", "no", "not asked"], set()),
    "paused": (_paused, ["yes", "no", "not asked"], {"running-paused"}),
    "an unbind waits": (_gone, ["no", "yes", "no"], {"running-function-taken-away"}),
    "the old interface": (_legacy, ["no", "no", "no"], {"running-legacy-vfio", "running-not-accelerated"}),
    "not open any more": (_closed, ["no", "yes", "no"], set()),
    "stopped": (_stopped, ["yes", "yes", "not asked"], {"running-process-stopped"}),
    "another driver": (_other_driver, ["yes", "yes", "not asked"], {"running-function-driver"}),
    "a slow link": (_slow, ["yes", "yes", "not asked"], {"running-link-slow"}),
    "no interrupt comes": (_no_interrupt, ["yes", "yes", "not asked"], {"running-interrupts-missing"}),
    "told to bypass": (_appended, ["yes", "yes", "not asked"], {"running-guest-told-to-bypass"}),
    "told not to": (_appended_off, ["yes", "yes", "not asked"], set()),
    "a QEMU that was replaced": (_replaced, ["yes", "yes", "not asked"], {"running-qemu-replaced"}),
    "another node": (_far, ["yes", "yes", "not asked"], {"running-memory-elsewhere", "running-cpus-elsewhere"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_thing_wrong(name: str, record: dict[str, Any], tmp_path: Path) -> None:
    change, said, found = WRONG[name]
    change(record)
    vm = looked(record, tmp_path)
    assert answers(vm) == said
    assert codes(vm) == found


def test_what_a_profile_asks_for_and_the_process_has_not(record: dict[str, Any], tmp_path: Path) -> None:
    record["status"] = record["status"].replace("Uid:\t0\t0", "Uid:\t64055\t64055")
    change: Callable[[Expected], Expected] = lambda one: replace(one, hugepages=2 << 20, memlock=1 << 30, memory=1 << 30)  # noqa: E731
    assert codes(looked(record, tmp_path, change)) == {"running-hugepages-unused", "running-memlock-small", "running-differs"}


def test_another_qemu_and_another_machine_than_planned(record: dict[str, Any], tmp_path: Path) -> None:
    """Within a release nothing is added: 11.1.2 is as good as 11.1; and machine types are of a release."""
    record["qmp"].append({"execute": "qom-get", "arguments": {"path": "/machine", "property": "type"}, "return": "virt-11.1-machine"})
    for qemu, machine, found in (
        ("11.1", "virt-11.1", set()), ("11.1.0", "virt", set()), ("11.0", None, {"running-other-qemu"}), (None, "virt-10.2", {"running-differs"}),
    ):  # fmt: skip
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        place.mkdir()
        assert codes(looked(record, place, lambda one, q=qemu, m=machine: replace(one, qemu=q, machine=m))) == found  # type: ignore[misc]


def test_what_a_domain_or_command_line_needs_to_lock_is_known_too(record: dict[str, Any], tmp_path: Path) -> None:
    """Its memory and QEMU's pvtime page: a limit of the memory alone is too small (docs/sources/running.md, failures)."""
    record["status"] = record["status"].replace("Uid:\t0\t0", "Uid:\t64055\t64055")
    for limit, found in ((768 << 20, {"running-memlock-small"}), ((768 << 20) + os.sysconf("SC_PAGE_SIZE"), set())):
        record["limits"] = re.sub(r"(Max locked memory\s+)\S+(\s+)\S+", rf"\g<1>{limit}\g<2>{limit}", record["limits"])
        place = tmp_path / str(limit)
        place.mkdir()
        assert codes(looked(record, place)) == found


def test_the_hosts_log_since_the_start(record: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    vm = looked(record, tmp_path / "a", kernel=tuple(EVENT))
    assert codes(vm) == {"running-events"}
    assert "1 event of 0000:14:00.0 since the VM started, the last one F_TRANSLATION" in vm.findings[0].what
    before = tuple(line.replace("[ 9999.", "[    1.") for line in EVENT)
    assert codes(looked(record, tmp_path / "b", kernel=before)) == set()


def test_two_hundred_vms_and_one_that_hangs(record: dict[str, Any], tmp_path: Path) -> None:
    """Each is looked at; the one whose monitor is silent takes its own time and nobody else's."""
    seen = world(record, tmp_path)
    own = seen.proc / str(os.getpid())
    for number in range(200):
        place = seen.proc / str(1_000_000_000 + number)
        place.mkdir()
        (place / "stat").write_text(f"{place.name} (qemu) S " + " ".join("0" for _ in range(18)) + " 5 0")
        words = ["qemu-system-aarch64", "-name", f"vm{number}", "-qmp", f"unix:{tmp_path}/none,server=on"]
        (place / "cmdline").write_bytes("".join(f"{word}\0" for word in words).encode())
    with serving(tmp_path / "silent", b""):
        (own / "cmdline").write_bytes(f"qemu-system-aarch64\0-name\0hangs\0-qmp\0unix:{tmp_path}/silent\0".encode())
        found, missing = find([], [], replace(seen, answer=0.5))
        vms = verify(found, replace(seen, answer=0.5))
    assert (len(vms), missing) == (201, [])
    assert {code for vm in vms for code in codes(vm)} == {"running-monitor-silent"}
    (hanging,) = (vm for vm in vms if vm.name == "hangs")
    assert "did not come within" in hanging.monitor


def test_a_number_that_another_process_has_now(record: dict[str, Any], tmp_path: Path) -> None:
    seen = world(record, tmp_path)
    (process,) = running(proc=seen.proc, sys=seen.sys)
    head, _, tail = record["stat"].rpartition(")")
    words = tail.split()
    (seen.proc / str(os.getpid()) / "stat").write_text(f"{head}) " + " ".join([*words[:19], str(int(words[19]) + 1), *words[20:]]))
    (vm,) = verify([Found(process=process, expected=as_started(process, seen))], seen)
    assert (vm.state, codes(vm), vm.steps) == ("ended", {"running-ended"}, ())
