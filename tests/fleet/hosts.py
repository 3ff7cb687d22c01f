"""Hosts to make fleets of: the shipped fixtures, and the recorded arm64 host with other SMMUs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from tests.tools.hosts import FIXTURES, facts
from wizard.arch.idr import IDR0, IDR1, IDR3, IDR5
from wizard.facts.model import Facts, HwInfo
from wizard.facts.snapshot import encode
from wizard.host.log.parse import Feature

SMMUS = ("smmu3.0x000000000c000000", "smmu3.0x000000000c020000", "smmu3.0x000000000c040000")
"""Of the recorded host, in order: igb with two VFs and NVMe; e1000e and virtio; a shared group only."""

OAS_CODES = {40: 2, 44: 4, 48: 5}


def fixture_names() -> list[str]:
    """Every shipped snapshot."""
    return sorted(path.stem for path in FIXTURES.glob("*.json"))


def tuned(
    base: Facts,
    host: str,
    *,
    smmus: Iterable[str] = SMMUS,
    ats: bool = False,
    ril: bool = True,
    ssidsize: int = 0,
    oas: int = 44,
    time: str | None = None,
) -> Facts:
    """The host with other SMMUs: ID registers and the kernel's feature mask say the same, as on a machine that has them."""
    numbers = {iommu.name: iommu.device for iommu in base.iommus}
    members = {member for iommu in base.iommus if iommu.name in smmus for member in iommu.members}
    devices = {numbers[name] for name in smmus}

    def registers(info: HwInfo) -> HwInfo:
        if info.data is None or info.address not in members:
            return info
        raw = bytes.fromhex(info.data)
        words = [int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw), 4)]
        words[2] = IDR0(words[2]).replace(ATS=int(ats)).value
        words[3] = IDR1(words[3]).replace(SSIDSIZE=ssidsize).value
        words[5] = IDR3(words[5]).replace(RIL=int(ril)).value
        words[7] = IDR5(words[7]).replace(OAS=OAS_CODES[oas]).value
        return replace(info, data=b"".join(word.to_bytes(4, "little") for word in words).hex())

    def line(text: str) -> str:
        match = re.search(r"arm-smmu-v3 (\S+): oas (\d+)-bit \(features (0x[0-9a-f]+)\)", text)
        if match is None or match[1] not in devices:
            return text
        mask = Feature(int(match[3], 16)) & ~(Feature.ATS | Feature.RANGE_INV)
        mask |= (Feature.ATS if ats else Feature(0)) | (Feature.RANGE_INV if ril else Feature(0))
        return text.replace(f"oas {match[2]}-bit (features {match[3]})", f"oas {oas}-bit (features {int(mask):#010x})")

    return replace(
        base,
        identity=replace(base.identity, host=host),
        hw_info=tuple(map(registers, base.hw_info)),
        log=tuple(map(line, base.log)),
        moment=replace(base.moment, time=time),
    )


def bound(host: str = "host-a", **values: object) -> Facts:
    """The recorded host, its functions on vfio-pci: six of them can be accelerated."""
    return tuned(facts("vfio-arm64-virt-canwbs"), host, **values)  # type: ignore[arg-type]


def renamed(base: Facts, host: str) -> Facts:
    """The same machine with another identity."""
    return replace(base, identity=replace(base.identity, host=host))


def renumbered_parts(base: Facts, mark: str) -> Facts:
    """The same cards by other serial numbers, as another machine of the model has them."""
    functions = (replace(f, serial_number=f"{mark}-{f.serial_number}") if f.serial_number else f for f in base.functions)
    return replace(base, functions=tuple(functions))


def unnumbered(base: Facts) -> Facts:
    """The same, recorded by somebody who may not read serial numbers."""
    return replace(base, functions=tuple(replace(f, serial_number=None) for f in base.functions))


def write(directory: Path, hosts: dict[str, Facts]) -> list[str]:
    """Snapshots in a directory; their paths."""
    paths = []
    for name, host in hosts.items():
        path = directory / f"{name}.json"
        path.write_bytes(encode(host))
        paths.append(str(path))
    return paths
