"""The tables of what is known: each entry says where it is from and when, and what rests on them says so where they end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from msgspec.structs import replace

import wizard.knowledge
from tests.tools.cache import PROJECT
from tests.tools.hosts import changed, facts, host, planned, with_function
from wizard.base.release import release_of
from wizard.facts.model import Facts
from wizard.fleet.diff import diff
from wizard.fleet.engines import kubevirt
from wizard.fleet.summary import summary_of
from wizard.host.devices import unknown_gpu
from wizard.host.errata import errata_of
from wizard.host.kernels import CONCERNS, changes, has_repeat_erratum
from wizard.knowledge import tables
from wizard.knowledge.age import knowledge, lines
from wizard.plan.request import NodeRequest

GPU = "0008:01:00.0"


@pytest.mark.parametrize("name", tables.TABLES)
def test_every_entry_has_a_source_and_a_date(name: str) -> None:
    table = tables.TABLES[name]()
    assert table.about
    assert table.read
    assert all(read.what and read.version and date(2026, 1, 1) < read.date for read in table.read)
    assert table.entries()
    for entry in table.entries():
        assert len(entry.source) > 10, entry
        assert date(2026, 1, 1) < entry.date <= max(read.date for read in table.read), entry


def test_every_file_is_a_table() -> None:
    files = {path.stem for path in Path(wizard.knowledge.__path__[0]).glob("*.toml")}
    assert files == set(tables.TABLES)


def test_each_change_concerns_hosts_that_can_be_told() -> None:
    assert {change.concerns for change in tables.kernels().change} == set(CONCERNS)
    newest = release_of(tables.kernels().newest)
    assert newest is not None
    assert all((0, 0) < change.release <= newest for change in tables.kernels().change)


def test_the_driver_of_linux_7_3_names_those_that_the_table_says_it_names() -> None:
    """modinfo of nvgrace-gpu-vfio-pci.ko of 7.3.4: alias vfio_pci:v000010DEd0000…."""
    assert {gpu.id for gpu in tables.devices().coherent_gpu if gpu.in_linux} == {0x2342, 0x2345, 0x2348, 0x2941, 0x31C2}


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("7.3.4+deb13-arm64", "Debian"),
        ("6.12.48+deb13-arm64-16k", "Debian"),
        ("7.2.12+deb14-cloud-arm64", "Debian"),
        ("6.8.0-138-generic", "Ubuntu"),
        ("6.8.0-138-generic-64k", "Ubuntu"),
        ("7.0.0-1019-nvidia", "Ubuntu for NVIDIA platforms"),
        ("6.14.0-1015-nvidia-64k", "Ubuntu for NVIDIA platforms"),
        ("5.14.0-570.12.1.el9_6.aarch64+64k", "RHEL, CentOS Stream, Rocky Linux"),
        ("6.12.0-55.9.1.el10_0.aarch64", "RHEL, CentOS Stream, Rocky Linux"),
        ("6.18.2-1.azl3", "Azure Linux (kernel-hwe)"),
        ("6.18.9-talos", "Talos"),
        ("7.2.13-armhost", None),
        ("6.17.0-rc3-next-20250627", None),
    ],
)
def test_whose_kernel_it_is(release: str, name: str | None) -> None:
    kernel = tables.distribution(release)
    assert (kernel.name if kernel else None) == name


def test_a_distributions_usual_configuration_is_a_hint_and_no_answer() -> None:
    unread = changed(lambda f: replace(f, hw_info=(), kernel=replace(f.kernel, release="7.3.4+deb13-arm64", config=None)))
    reasons = {reason.code: reason for reason in unread.verdict("0000:14:00.0").reasons}
    assert unread.verdict("0000:14:00.0").accel == "unknown"
    assert "Debian builds its own kernels (7.2.13 and 7.3.4" in reasons["kernel-config-unknown"].fix


AGES = [(date(2026, 11, 30), "(today"), (date(2026, 12, 1), "(1 day ago"), (date(2027, 11, 30), "(365 days ago")]


@pytest.mark.parametrize(("today", "words"), AGES)
def test_the_age_is_told(today: date, words: str) -> None:
    shown = "\n".join(lines(knowledge(today)))
    assert words in shown
    assert all(f"{name}: " in shown for name in tables.TABLES)
    assert "read: Linux, 7.3.4" in shown


def test_the_command_needs_no_host_and_lists_load_no_table() -> None:
    """Of a host without NVIDIA's functions, with its kernel's configuration and QEMU's IIDR of 0."""
    code = (
        "import sys; from wizard.cli.main import main; main(['doctor', '--knowledge', '--json']); n = len(sys.modules)\n"
        "from wizard.knowledge import tables; loaded = [name for name in tables.TABLES if tables.TABLES[name].cache_info().currsize]; print(loaded)\n"
        "[table.cache_clear() for table in tables.TABLES.values()]; out, sys.stdout = sys.stdout, sys.stderr\n"
        "main(['--replay', sys.argv[1], 'list']); sys.stdout = out\n"
        "print([name for name in tables.TABLES if tables.TABLES[name].cache_info().currsize])"
    )
    fixture = str(PROJECT / "fixtures/arm64-virt-canwbs.json")
    done = subprocess.run([sys.executable, "-c", code, fixture], capture_output=True, text=True, check=True, cwd=PROJECT, timeout=60)
    answer, every, none = done.stdout.rsplit("\n", 3)[:3]
    assert [table["name"] for table in json.loads(answer)["tables"]] == list(tables.TABLES)
    assert (every, none) == (str(list(tables.TABLES)), "[]")


def gpu(**values: object) -> Callable[[Facts], Facts]:
    def apply(found: Facts) -> Facts:
        return replace(found, functions=tuple(replace(f, **values) if f.address == GPU else f for f in found.functions))

    return apply


CARD = "0x0000660000000000 0x0000660000ffffff 0x0000000000140204\n" + f"{0x64 << 40:#018x} {(0x64 << 40) + (64 << 30) - 1:#018x} 0x000000000014220c"
"""Registers of 16 MiB, and a 64-bit prefetchable BAR of 64 GiB: a card in a slot shows its memory."""
SMALL = "0x0000660000000000 0x0000660000ffffff 0x0000000000140204"

LOOKS = {
    "on the driver": (gpu(device="0x30ff", driver="nvgrace_gpu_vfio_pci"), "the kernel has it on nvgrace_gpu_vfio_pci"),
    "on vfio-pci": (gpu(device="0x30ff", driver="vfio-pci"), "its BARs were not read"),
    "on its own driver, no memory in a BAR": (gpu(device="0x30ff", driver="nvidia", resource=SMALL), "none of its BARs holds its memory"),
    "a card in a slot": (gpu(device="0x2331", driver="nvidia", resource=CARD), None),
    "another class": (gpu(device="0x30ff", driver="vfio-pci", class_="0x030000"), None),
    "another vendor": (gpu(vendor="0x1002", device="0x30ff", driver="vfio-pci"), None),
    "known": (gpu(device="0x31c2", driver="vfio-pci"), None),
    "a VF with a GPU's ID": (gpu(device="0x3041", driver="vfio-pci", physfn="0009:01:00.0"), "it is a VF with the ID of a Vera Rubin"),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_gpu_that_no_table_has_is_said_to_be_unknown_and_not_planned(name: str) -> None:
    change, words = LOOKS[name]
    looked = changed(change, name="gb200")
    found = unknown_gpu(looked.functions, looked.functions[GPU])
    assert (found is None) == (words is None)
    planned_for = planned(GPU, on=looked, assume_accel=True)
    codes = {finding.code: finding for finding in planned_for.findings}
    assert ("gpu-memory-unknown" in codes) == (words is not None)
    if words is not None:
        assert found is not None
        assert words in found[1]
        assert codes["gpu-memory-unknown"].severity == "error"


def test_what_a_person_wrote_of_it_counts() -> None:
    looked = changed(LOOKS["on the driver"][0], name="gb200")
    nodes = (NodeRequest(memory=1 << 30, cpus="0-1"), NodeRequest(memory=0, initiator="dev0"))
    made = planned(GPU, on=looked, assume_accel=True, mmio_window=2 << 40, numa=nodes)
    assert [f.severity for f in made.findings if f.code == "gpu-memory-unknown"] == ["warning"]


@pytest.mark.parametrize("device", ["0x3041", "0x307f"])
def test_vera_rubin_has_its_window_and_its_nodes(device: str) -> None:
    """kubevirt#19070: two BARs of 512 GiB, a guest window of 2 TiB; eight nodes as GraceIOVirtualization makes."""
    made = planned(GPU, on=with_function(GPU, name="gb200", device=device), assume_accel=True)
    assert made.memory.mmio_window == 2 << 40
    assert sorted(made.devices[0].bars)[-2:] == [512 << 30, 512 << 30]
    assert made.devices[0].bars_from == "assumed"
    assert [node.initiator for node in made.memory.nodes].count(made.devices[0].id) == 8


def test_what_an_update_changes_concerns_this_host() -> None:
    def ids(of: str, after: tuple[int, int], change: Callable[[Facts], Facts] | None = None) -> list[str]:
        return [one.id for one in changes(changed(change, name=of), after, (7, 3))]

    assert ids("arm64-virt-canwbs", (7, 2)) == ["command-fields"]
    assert ids("arm64-virt-canwbs", (7, 3)) == []
    assert ids("x86-intel", (6, 1)) == []
    assert "ats-required" in ids("gb10", (7, 1))
    assert "t264-smmu-3" in ids("tegra264", (7, 2))
    assert "t264-smmu-3" not in ids("rk3588-rock-5b", (7, 2))
    mode = {"vfio.enable_unsafe_noiommu_mode": "Y"}
    unsafe = ids("arm64-virt-canwbs", (7, 2), lambda f: replace(f, kernel=replace(f.kernel, module_parameters=mode)))
    assert unsafe == ["command-fields", "noiommu-cdev"]


def test_diff_says_what_the_kernel_brought_and_what_went_with_it() -> None:
    old = facts("arm64-virt-canwbs")
    new = replace(old, kernel=replace(old.kernel, release="7.3.4-armhost"))
    forth = {f.code: f for f in diff(host(), changed(lambda _: new)).findings}
    back = {f.code: f for f in diff(changed(lambda _: new), host()).findings}
    assert forth["kernel-update-changes"].what.startswith("The update of the kernel changes on this host: 7.2 → 7.3: a guest's invalidation commands")
    assert "kernel-update-undone" in back
    assert "kernel-update-changes" not in back


def test_tegra264_is_told_by_its_device_tree() -> None:
    assert has_repeat_erratum(host("tegra264"))
    assert not has_repeat_erratum(host("rk3588-rock-5b"))


@pytest.mark.parametrize(
    ("iidr", "nesting", "sync"),
    [
        (0x4831043B, False, False),
        (0x4832043B, True, False),
        (0x4870043B, False, True),
        (0x4871043B, False, True),
        (0x4871143B, True, False),
        (0, True, False),
    ],
)
def test_errata_as_the_kernel_applies_them(iidr: int, nesting: bool, sync: bool) -> None:
    """arm_smmu_device_iidr_probe() of 7.3.4: MMU-600 with variant < 2, MMU-700 with variant < 1 or revision < 1. Variant 19:16, revision 15:12."""
    found = errata_of(iidr)
    assert (not found.no_nesting, found.cmdq_force_sync) == (nesting, sync)


def test_kubevirt_is_judged_by_its_own_list() -> None:
    gb300 = changed(lambda f: replace(f, functions=tuple(replace(one, device="0x31c2") if one.device == "0x2941" else one for one in f.functions)),
                    name="gb200")  # fmt: skip
    said = kubevirt.remarks(summary_of(gb300))
    assert any("10de:31c2 is a GB300, which is not in KubeVirt's own list" in line for line in said)
    assert not any("KubeVirt's own list" in line for line in kubevirt.remarks(summary_of(host("gb200"))))
