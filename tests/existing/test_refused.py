"""What is wrong with a command line beside the plan that it makes: found, with QEMU's words; the words are those of the real QEMU."""

from __future__ import annotations

import subprocess

import pytest

from tests.tools.processes import LIMIT
from tests.tools.qemu import require_qemu
from wizard.existing.load import read_vms

BEGIN = "-machine virt,gic-version=3,accel=kvm -cpu host -m 1G -nodefaults -display none -bios /fw -object iommufd,id=iommufd0"
PXB = "-device pxb-pcie,id=p1,bus_nr=8,bus=pcie.0"
SMMU = "-device arm-smmuv3,primary-bus=p1,id=s1,accel=on,ats=off,ril=on,ssidsize=0,oas=44"
PORT = "-device pcie-root-port,id=r1,bus=p1,chassis=1"
FUNCTION = "-device vfio-pci,host=0000:14:00.0,bus=r1,iommufd=iommufd0"
JSON_SMMU = """-device '{"driver":"arm-smmuv3","primary-bus":"p1","id":"s1","accel":true,"ats":"off","ril":"on","ssidsize":"0","oas":"44"}'"""


def said(*words: str) -> list[str]:
    (vm,) = read_vms(f"qemu-system-aarch64 {' '.join((BEGIN, *words))}".encode(), "vm.sh")
    return [f"{finding.code}: {finding.why}" for finding in vm.findings if finding.code in ("import-refused", "import-unknown-word")]


def test_a_sound_one() -> None:
    assert said(PXB, SMMU, PORT, FUNCTION) == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((SMMU, PXB, PORT, FUNCTION), "Device 'p1' not found"),
        ((PXB, SMMU, FUNCTION, PORT), "Bus 'r1' not found"),
        ((PXB, JSON_SMMU, PORT, FUNCTION), "hostdev0 is made before its vSMMU: QEMU aborts"),
        ((PXB, SMMU.replace("primary-bus=p1,", ""), PORT, FUNCTION), "SMMU is not attached to any PCI bus!"),
        ((PXB, SMMU, PORT, FUNCTION.replace("=iommufd0", "=other")), "Device 'other' not found"),
        ((PXB + ",bypass_iommu=on", SMMU, PORT, FUNCTION), "Bypass option cannot be set for SMMUv3 associated PCIe RC"),
        ((PXB, SMMU + ",stage=nested", PORT, FUNCTION), "Only stage1 is supported for SMMUv3 with accel=on"),
        ((PXB, SMMU, PORT, FUNCTION, "-accel kvm,kernel-irqchip=off"), "SMMUv3 accel=on requires KVM with kernel-irqchip=on support"),
        ((PXB, SMMU, PORT, FUNCTION, "-machine kernel-irqchip=off"), "SMMUv3 accel=on requires KVM with kernel-irqchip=on support"),
        ((PXB, SMMU, PORT, FUNCTION, "-only-migratable"), "Migration not supported with SMMUv3 accelerator mode enabled"),
        (
            (
                PXB,
                SMMU,
                PORT,
                FUNCTION,
                "-object iommufd,id=b -device pcie-root-port,id=r2,bus=p1,chassis=2 -device vfio-pci,host=1:0.0,bus=r2,iommufd=b",
            ),
            "Functions behind one vSMMU have to be of one iommufd",
        ),
    ],
)
def test_what_qemu_refuses_is_refused_in_its_words(words: tuple[str, ...], why: str) -> None:
    (found,) = said(*words)
    assert found.startswith("import-refused: ")
    assert why in found


_JSON = [
    ('{"driver":"arm-smmuv3","primary-bus":"p1","accel":"on"}', "Invalid parameter type for 'accel', expected: boolean"),
    ('{"driver":"arm-smmuv3","primary-bus":"p1","ats":true}', "Invalid parameter type for 'ats', expected: string"),
    ('{"driver":"arm-smmuv3","primary-bus":"p1","oas":44}', "Invalid parameter type for 'oas', expected: string"),
]


@pytest.mark.parametrize(("value", "why"), _JSON)
def test_json_has_types(value: str, why: str) -> None:
    assert any(why in one for one in said(PXB, f"-device '{value}'"))


@pytest.mark.qemu
def test_the_words_are_those_of_the_real_one() -> None:
    cases = [
        *(([PXB, f"-device '{value}'"], why) for value, why in _JSON),
        ([PXB, """-device '{"driver":"pcie-root-port","chassis":"1"}'"""], "Parameter 'chassis' expects uint64"),
        (["-device arm-smmuv3,primary-bus=p1,id=s1", PXB], "Device 'p1' not found"),
        ([PXB, "-device virtio-rng-pci,bus=r1", PORT], "Bus 'r1' not found"),
        (["-device arm-smmuv3,id=s1"], "SMMU is not attached to any PCI bus!"),
        ([PXB + ",bypass_iommu=on", "-device arm-smmuv3,primary-bus=p1"], "Bypass option cannot be set for SMMUv3 associated PCIe RC"),
        ([PXB, PORT, "-device vfio-pci,host=0000:00:00.0,bus=r1,iommufd=other"], "Device 'other' not found"),
        ([PXB, "-device arm-smmuv3,primary-bus=p1,pasid=on"], "Property 'arm-smmuv3.pasid' not found"),
        (["-machine highmem-mmio-sizes=1T"], "Property 'virt-11.1-machine.highmem-mmio-sizes' not found"),
        (["-zzz"], "-zzz: invalid option"),
        (["-numa node,mem=1024"], "Parameter -numa node,mem is not supported by this machine type"),
        (["-machine memory-backend=m -object memory-backend-ram,id=m,size=2G,reserve=off"], "maxmem/slots too huge"),
        (["-m 1G -machine memory-backend=m -object memory-backend-ram,id=m,size=2G,reserve=off"], "does not match the size of the memory backend"),
        (["-device zzz"], "'zzz' is not a valid device model name"),
        (["-object iommufdd,id=a"], "Parameter 'qom-type' does not accept value 'iommufdd'"),
    ]
    for words, why in cases:
        line = f"{require_qemu()} -machine virt -accel tcg -nodefaults -display none -S {' '.join(words)}"
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=LIMIT, check=False)
        assert why in done.stderr, line
