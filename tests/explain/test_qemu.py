"""Messages that the real QEMU can be made to say: each command line is refused, and what it says is found, whatever its version's wording."""

from __future__ import annotations

import io
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.tools.processes import LIMIT
from tests.tools.qemu import require_qemu
from wizard.explain.matcher import Matcher
from wizard.explain.messages import every
from wizard.explain.model import By, Proof
from wizard.explain.scanning import scan

BASE = ("-machine", "virt,gic-version=3", "-cpu", "max")
SMMU = "arm-smmuv3,primary-bus=pcie.0"
ROOT_PORT = "pcie-root-port,id=a,chassis=1"


def device(*devices: str) -> tuple[str, ...]:
    return (*BASE, *(word for one in devices for word in ("-device", one)))


PROVOKED: dict[str, tuple[tuple[str, ...], ...]] = {
    "qemu-smmu-no-bus": (device("arm-smmuv3"),),
    "qemu-device-not-found": (device("arm-smmuv3,primary-bus=p1"), device("vfio-pci,host=0000:01:00.0,iommufd=i0")),
    "qemu-smmu-wrong-bus": (device("pcie-root-port,id=rp", "arm-smmuv3,primary-bus=rp"),),
    "qemu-iommu-attached": (device(SMMU, SMMU),),
    "qemu-accel-kvm": (device(f"{SMMU},accel=on"),),
    "qemu-needs-accel": tuple(device(f"{SMMU},{one}") for one in ("ats=on", "ril=off", "oas=48", "ssidsize=4", "cmdqv=on")),
    "qemu-property-value": tuple(device(f"{SMMU},{one}") for one in ("oas=45", "ssidsize=21", "ats=yes")),
    "qemu-oas-model": (device(f"{SMMU},oas=52"),),
    "qemu-boolean": (device(f"{SMMU},accel=1"),),
    "qemu-no-accel-property": (device(f"{SMMU},foo=1"),),
    "qemu-vfio-property": (device("vfio-pci,host=0000:01:00.0,x-foo=1"),),
    "qemu-duplicate-id": (device(f"{SMMU},id=a", f"{SMMU},id=a"),),
    "qemu-identifier": (device(f"{SMMU},id=9a"),),
    "qemu-identifier-hint": (device(f"{SMMU},id=9a"),),
    "qemu-two-viommus": (
        ("-machine", "virt,gic-version=3,iommu=smmuv3", "-cpu", "max", "-device", SMMU),
        device("virtio-iommu-pci", SMMU),
    ),
    "qemu-bypass": (("-machine", "virt,default-bus-bypass-iommu=on", "-device", SMMU),),
    "qemu-no-kvm": (("-machine", "virt,accel=kvm"), (*BASE, "-accel", "kvm")),
    "qemu-cpu-model": (("-machine", "virt", "-cpu", "nonesuch"),),
    "qemu-iommufd-fd": ((*BASE, "-object", "iommufd,id=i0,fd=abc"),),
    "qemu-host-missing": (device("vfio-pci"),),
    "qemu-host-hint": (device("vfio-pci"),),
    "qemu-no-host-device": (device("vfio-pci,host=00fe:ff:1f.7"),),
    "qemu-host-value": (device("vfio-pci,host=10000:01:00.0"), device("vfio-pci,host=zz")),
    "qemu-bus-not-found": (device("pcie-root-port,id=a,bus=nope"),),
    "qemu-only-bridges": (device("pxb-pcie,id=p,bus_nr=8", "virtio-net-pci,bus=p"),),
    "qemu-bus-in-use": (device("pxb-pcie,id=p,bus=pcie.0,bus_nr=8", "pxb-pcie,id=q,bus=pcie.0,bus_nr=8"),),
    "qemu-expects": (
        device("pxb-pcie,id=p,bus_nr=256"),
        device('{"driver":"arm-smmuv3","primary-bus":"pcie.0","oas":48}'),
        device("pcie-root-port,chassis=1000"),
    ),
    "qemu-pxb-root": (device("pcie-root-port,id=r", "pxb-pcie,bus=r,bus_nr=4,id=x"),),
    "qemu-numa-node": (device("pxb-pcie,id=p,bus_nr=8,numa_node=3"),),
    "qemu-chassis": (device(ROOT_PORT, "pcie-root-port,id=b,chassis=1"),),
    "qemu-slot-taken": (device(f"{ROOT_PORT},addr=1.0", "pcie-root-port,id=b,chassis=2,addr=1.0"),),
    "qemu-single-function": (device(f"{ROOT_PORT},addr=1.0", "pcie-root-port,id=b,chassis=2,addr=1.1"),),
    "qemu-property-value-at": (device("virtio-net-pci,addr=40"),),
    "qemu-virtio-iommu-bus": (device(ROOT_PORT, "virtio-iommu-pci,bus=a"),),
    "qemu-model-name": (device("nonesuch"),),
    "qemu-machine-type": (("-machine", "virt-99.9"), ("-machine", "q35")),
    "qemu-property-not-found": (("-machine", "virt,foo=bar"),),
    "qemu-property-find": (device("virtio-net-pci,netdev=zz"), device("virtio-blk-pci,drive=zz")),
    "qemu-no-bus-kind": (("-machine", "none", "-device", "vfio-pci,host=0000:01:00.0"),),
    "qemu-cxl-off": (device("pxb-cxl,id=c,bus_nr=4"),),
    "qemu-numa-sum": ((*BASE, "-m", "1G", "-object", "memory-backend-ram,id=m0,size=512M", "-numa", "node,memdev=m0"),),
    "qemu-memdev": ((*BASE, "-m", "1G", "-numa", "node,memdev=m0"),),
    "qemu-backend-size": (("-machine", "virt,memory-backend=m0", "-m", "1G", "-object", "memory-backend-ram,id=m0,size=2G"),),
    "qemu-host-nodes": (
        ("-machine", "virt,memory-backend=m0", "-m", "64M", "-object", "memory-backend-ram,id=m0,size=64M,host-nodes=63,policy=bind"),
    ),
    "qemu-backing-store": (
        ("-machine", "virt,memory-backend=m0", "-m", "64M", "-object", "memory-backend-file,id=m0,size=64M,mem-path=/nonexistent/x"),
    ),
    "qemu-guest-memory": ((*BASE, "-m", "900T"),),
    "qemu-open-file": (
        (*BASE, "-drive", "if=pflash,format=raw,file=/nonexistent.fd"),
        (*BASE, "-blockdev", "driver=file,node-name=x,filename=/nonexistent"),
    ),
    "qemu-pflash-size": ((*BASE, "-drive", f"if=pflash,format=raw,readonly=on,file={Path(__file__)}"),),
    "qemu-rom-image": ((*BASE, "-bios", "/nonexistent.fd"),),
    "qemu-mmio-power": (("-machine", "virt,highmem-mmio-size=1000G"), ("-machine", "virt,highmem-mmio-size=64G")),
    "qemu-smp": (("-machine", "virt,gic-version=2", "-smp", "9"), (*BASE, "-smp", "2000")),
    "qemu-socket": ((*BASE, "-qmp", "unix:/nonexistent/dir/s,server=on,wait=off"),),
}
# Said by a QEMU that goes on: it is asked to end by what comes after it on its command line.
WARNED = {
    "qemu-smmu-dt-warning": device("pxb-pcie,id=p,bus=pcie.0,bus_nr=8", "arm-smmuv3,primary-bus=p", "nonesuch"),
    "qemu-slot-valid": device(ROOT_PORT, "virtio-net-pci,bus=a,addr=1", "nonesuch"),
}
ELSEWHERE = {"qemu-dma-map-bar", "qemu-no-dev-iommu", "qemu-no-iommu-group", "qemu-signal", "qemu-nic-peer"}
"""Of a host without iommufd or an IOMMU, which this may not be; of a process that is ended; of the emulated arm64 host (test_armhost_logs.py)."""


@cache
def matcher() -> Matcher:
    return Matcher()


def said(words: tuple[str, ...]) -> str:
    done = subprocess.run(
        [require_qemu(), "-display", "none", "-nodefaults", "-S", *words],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode != 0, done.stderr
    return done.stderr


@pytest.mark.qemu
@pytest.mark.parametrize("id", [*PROVOKED, *WARNED])
def test_what_qemu_says_is_found(id: str) -> None:
    for words in PROVOKED.get(id) or (WARNED[id],):
        text = said(words)
        assert id in [hit.message.id for hit in scan(matcher(), io.BytesIO(text.encode())).hits], text


@pytest.mark.qemu
@pytest.mark.skipif(Path("/dev/iommu").exists(), reason="this host has iommufd")
def test_what_a_host_without_iommufd_says() -> None:
    text = said((*BASE, "-object", "iommufd,id=i0"))
    assert [hit.message.id for hit in scan(matcher(), io.BytesIO(text.encode())).hits] == ["qemu-no-dev-iommu"], text


def test_all_that_is_called_provoked_is_provoked() -> None:
    assert {one.id for one in every() if one.by is By.QEMU and one.proof is Proof.PROVOKED} == {*PROVOKED, *WARNED} | ELSEWHERE
