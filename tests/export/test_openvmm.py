"""OpenVMM: what its vSMMU needs of a host, and what its command can't carry.

Nothing of it can be run here: what is expected was read in its source (microsoft/openvmm 1488a37, August 2026) and its Guide.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.tools import golden
from tests.tools.hosts import E1000E, NVME, PAIR, VF0, codes, host, plan, planned, with_registers
from tests.tools.processes import LIMIT
from tests.tools.requests import SETS
from tests.tools.samples import DATA, ROWS
from wizard.base.errors import UsageError
from wizard.dryrun import dry_run
from wizard.existing.load import read_vms
from wizard.export import libvirt_xml, qemu_script, qmp_hotplug
from wizard.export.openvmm import openvmm_script
from wizard.host.model import Accel
from wizard.host.vmm import Vmm
from wizard.plan.model import Plan, VmPlan
from wizard.plan.properties import DECLARED, Properties
from wizard.plan.request import DiskRequest, HotplugRequest, Mode, NetworkRequest, NodeRequest
from wizard.plan.target import for_vmm
from wizard.rehearsal.qemu import rehearse

GIB = 1 << 30
# IDR0, IDR1 and IDR5 as IHI 0070 6.3.1, 6.3.2 and 6.3.6 place their fields.
ST_LEVEL, TTENDIAN, TTF, SIDSIZE, GRAN4K, GRAN16K = 3 << 27, 3 << 21, 3 << 2, 0x3F, 1 << 4, 1 << 5


def made(*functions: str, **values: Any) -> VmPlan:
    return planned(*(functions or (NVME,)), target="openvmm", **values)


def cleared(register: int, mask: int, value: int = 0) -> Callable[[list[int]], None]:
    def change(words: list[int]) -> None:
        words[register] = words[register] & ~mask | value

    return change


@pytest.mark.parametrize(
    ("register", "mask", "value", "qemu", "openvmm"),
    [
        # resolve_host_caps(): stream table format and SIDSIZE "are deliberately not validated", 16K and 64K are not checked
        (0, ST_LEVEL, 0, Accel.NO, Accel.YES),
        (1, SIDSIZE, 8, Accel.NO, Accel.YES),
        (5, GRAN16K, 0, Accel.NO, Accel.YES),
        # "IDR5.GRAN4K=0", the AArch64 bit of TTF, and LE or mixed of TTENDIAN are
        (5, GRAN4K, 0, Accel.NO, Accel.NO),
        (0, TTF, 1 << 2, Accel.NO, Accel.NO),
        (0, TTENDIAN, 3 << 21, Accel.NO, Accel.NO),
        (0, TTENDIAN, 0, Accel.YES, Accel.YES),
        (0, TTENDIAN, 1 << 21, Accel.YES, Accel.NO),  # reserved: QEMU passes host <= 2, OpenVMM knows two values
    ],
)
def test_each_vmm_compares_its_own_registers(register: int, mask: int, value: int, qemu: Accel, openvmm: Accel) -> None:
    on = with_registers(cleared(register, mask, value))
    assert on.verdict(NVME).accel is qemu
    assert on.verdict(NVME, Vmm.OPENVMM).accel is openvmm
    assert planned(NVME, on=on).ok is (qemu is Accel.YES)
    assert made(on=on).ok is (openvmm is Accel.YES)


def test_what_the_kernel_lacks_no_vmm_has() -> None:
    assert "accel-refused" in codes(made(on=host("arm64-virt")))


def test_its_vsmmu_offers_only_an_output_size() -> None:
    """SSIDSIZE, ATS and RIL read as zero in its IDRs, whatever the host has; oas=auto needs no function, unlike QEMU's."""
    vsmmu = made().vsmmus[0]
    assert {name: prop.written for name, prop in vsmmu.properties()} == {"ats": None, "ril": None, "ssidsize": None, "oas": "44", "cmdqv": None}
    assert {one.name for one in DECLARED if one.openvmm} == {"oas"}
    assert made(properties=Properties(oas=40)).vsmmus[0].oas.written == "40"
    assert made(properties=Properties(oas=40)).ok
    assert "openvmm-cant" in codes(made(properties=Properties(oas=56)))
    exceeds = next(finding for finding in made(properties=Properties(oas=48)).findings if finding.code == "property-exceeds-host")
    assert "configured SMMU oas=48 exceeds host SMMU OAS 44" in exceeds.why


def test_a_wish_that_goes_unheard_is_said_and_one_for_nothing_is_not() -> None:
    found = made(properties=Properties(ril="on", ats="off", ssidsize=0))
    said = next(finding for finding in found.findings if finding.code == "openvmm-goes-without")
    assert "ril=on" in said.what
    assert "ats" not in said.what.replace("gets a port", "")
    assert "ssidsize" not in said.what
    assert "openvmm-goes-without" not in codes(made())


def full() -> VmPlan:
    """A VM with everything that the command has a word for."""
    nodes = (NodeRequest(memory=GIB // 2, cpus="0-1", host_node=0), NodeRequest(memory=GIB // 2, cpus="2"), NodeRequest(memory=0, initiator="dev0"))
    return made(
        NVME, E1000E, cpus=3, numa=nodes, hotplug=(HotplugRequest(functions=(VF0,)),), disks=(DiskRequest(path="/d 1", readonly=True),),
        networks=(NetworkRequest(kind="tap", source="tap0"), NetworkRequest()),
    )  # fmt: skip


def test_the_command_and_what_it_says_of_itself() -> None:
    """cli.md's own spelling of every option; the text says that nobody ran it."""
    text = openvmm_script(full())
    golden.same(Path(__file__).parent / "golden-openvmm.sh", text)
    assert "NOT RUN" in text
    assert "no OpenVMM was run here" in text


def test_the_script_is_a_script_that_asks_for_its_firmware(tmp_path: Path) -> None:
    script = tmp_path / "vm.sh"
    script.write_text(openvmm_script(full()))
    done = subprocess.run(["bash", str(script)], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False, timeout=LIMIT)
    assert "name the MSVM.fd" in done.stderr
    words = subprocess.run(
        ["bash", "-c", f'openvmm() {{ printf "%s\\n" "$@"; }}; {script.read_text().replace("exec openvmm", "openvmm")}'],
        env={"PATH": "/usr/bin:/bin", "OPENVMM_UEFI_FIRMWARE": "/a b"}, capture_output=True, text=True, check=True, timeout=LIMIT,
    )  # fmt: skip
    assert "/a b" in words.stdout.splitlines()
    assert "file:/d 1,ro,pcie_port=disk0-port" in words.stdout.splitlines()


def test_functions_of_one_device_get_ports_of_their_own() -> None:
    """vfio.md: each assigned device appears as a single-function device."""
    whole = planned(*PAIR, target="openvmm", mode=Mode.NONE)
    ports = [word for word in openvmm_script(whole).split() if word.startswith("pcie.0:")]
    assert len({port.split("addr=")[1] for port in ports}) == 2 == len(ports)


@pytest.mark.parametrize(
    "values",
    [
        {"mode": Mode.VIRTIO_IOMMU},
        {"disks": (DiskRequest(path="/a.qcow2", format="qcow2"),)},
        {"disks": (DiskRequest(path="/a,b"),)},
        {"networks": (NetworkRequest(kind="bridge", source="br0"),)},
    ],
)
def test_what_it_cant_be_asked_is_an_error(values: dict[str, object]) -> None:
    found = made(**values)
    assert "openvmm-cant" in codes(found)
    assert not found.ok


def test_a_plan_for_one_vmm_is_no_plan_for_the_other() -> None:
    theirs, ours = made(), planned(NVME)
    for export in (qemu_script, libvirt_xml, qmp_hotplug):
        with pytest.raises(UsageError, match="planned for OpenVMM"):
            export(theirs)
    with pytest.raises(UsageError, match="planned for OpenVMM"):
        dry_run(Plan(host=None, digest="", vms=(theirs,)), host())
    with pytest.raises(UsageError, match="planned for OpenVMM"):
        rehearse(theirs, "qemu-system-aarch64")
    with pytest.raises(UsageError, match=r"planned for QEMU 11\.1"):
        openvmm_script(ours)
    again = planned(*(function.host for function in theirs.request.functions), target=for_vmm(theirs.request, Vmm.QEMU).target)
    assert qemu_script(again) == qemu_script(ours)


def everything() -> dict[str, VmPlan]:
    """The plans of the other exports, and VMs of others with bridges and devices of their own."""
    made = {name: plan(replace(request, target="openvmm")).vms[0] for name, request in SETS.items()}
    for name in ROWS:
        data = (DATA / name).read_bytes()
        (vm,) = read_vms(data, name)
        on = host(ROWS[name]["host"])
        made[name] = plan(replace(vm.request, assume_accel=True, target="openvmm"), on=on).vms[0]
    return made


def test_nothing_of_a_plan_is_lost_in_silence() -> None:
    """Every function, disk and network is on a port of its own, every port on a root complex that is there, in a slot that is free."""
    exported = 0
    for name, vm in everything().items():
        if not vm.ok:
            assert vm.errors, name
            continue
        exported += 1
        words = [line.strip().replace("'", "") for line in openvmm_script(vm).splitlines()]
        complexes = {word.split()[1].split(",")[0]: word for word in words if word.startswith("--pcie-root-complex")}
        ports = [word.split()[1] for word in words if word.startswith("--pcie-root-port")]
        assert {port.split(":")[0] for port in ports} <= set(complexes), name
        places = [(port.split(":")[0], port.split("addr=")[1].split(",")[0]) for port in ports]
        assert len(places) == len(set(places)), name
        names = [port.split(":")[1].split(",")[0] for port in ports]
        assert len(names) == len(set(names)), name
        given = [(word.split("host=")[1].split(",")[0], word.split("port=")[1].split(",")[0]) for word in words if word.startswith("--vfio")]
        assert [host_ for host_, _ in given] == [device.host for device in vm.devices], name
        on = [port for _, port in given] + [word.split("pcie_port=")[1].split(":")[0] for word in words if "pcie_port=" in word]
        assert len(on) == len(set(on)) == len(vm.devices) + len(vm.disks) + len(vm.networks), name
        assert set(on) <= set(names), name
        smmus = [word.split("rc=")[1].split(",")[0] for word in words if word.startswith("--smmu")]
        assert smmus == [vsmmu.bus for vsmmu in sorted(vm.vsmmus, key=lambda one: complexes[one.bus].split("start_bus=")[1].split(",")[0].zfill(3))]
        ranges = sorted(tuple(int(word.split(f"{key}=")[1].split(",")[0]) for key in ("start_bus", "end_bus")) for word in complexes.values())
        assert all(before[1] < after[0] for before, after in pairwise(ranges)), name
        lost = [finding.what for finding in vm.findings if finding.code == "openvmm-goes-without"]
        assert bool(vm.request.kept_qemu or vm.request.kept_libvirt) <= any("imported from" in what for what in lost), name
    assert exported >= 5
