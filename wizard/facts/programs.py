"""QEMU and libvirt: what is installed, and what it can do by its own word.

Abilities are asked for by property, not by version: of QEMU by ``-device arm-smmuv3,help`` (30 ms), of libvirt by the schema that comes
with it, since its domain capabilities say nothing of accelerated SMMUs.
"""

from __future__ import annotations

import re
import shutil
import subprocess

from wizard.facts.model import Program

QEMU_NAMES = ("qemu-system-aarch64", "/usr/libexec/qemu-kvm")
PROBED_DEVICES = ("arm-smmuv3", "vfio-pci", "pxb-pcie", "pcie-root-port", "iommu-testdev")
SCHEMA = "/usr/share/libvirt/schemas/domaincommon.rng"
PROBED_ELEMENTS = ("iommu", "iommufd", "hostdevsubsyspci")  # definitions of the schema
_SCHEMA_LIMIT = 8 << 20  # bytes; 280 KB is usual
_TIMEOUT = 20  # seconds; 0.03 s is usual, an emulated host is slower


def find_programs() -> tuple[Program, ...]:
    """QEMU and libvirt of this machine, probed."""
    found = []
    qemu = next((path for name in QEMU_NAMES if (path := shutil.which(name))), None)
    if qemu:
        found.append(probe_qemu(qemu))
    for name in ("libvirtd", "virtqemud"):
        if path := shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/libexec"):
            found.append(_probe_libvirt(name, path))
    found += [Program(name=name, path=path) for name in ("virsh", "driverctl") if (path := shutil.which(name))]
    return tuple(found)


def probe_qemu(path: str) -> Program:
    """The version of a QEMU and the properties, with their defaults, of the device types that plans use."""
    try:
        version = re.search(r"version (\S+)", _run([path, "--version"]))
        properties = {}
        for device in PROBED_DEVICES:
            text = _run([path, "-machine", "none", "-device", f"{device},help"], expect_failure=True)
            properties[device] = _properties(text)
    except (OSError, subprocess.SubprocessError) as error:
        return Program(name="qemu", path=path, error=str(error))
    return Program(
        name="qemu",
        path=path,
        version=version[1].rstrip(",") if version else None,
        properties={device: found for device, found in properties.items() if found},
    )


def _properties(text: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        if match := re.match(r"\s+([\w.-]+)=<[^>]*>(.*)", line):
            default = re.search(r"\(default: (.*?)\)\s*$", match[2])
            found[match[1]] = default[1].strip('"') if default else None
    return found


def _probe_libvirt(name: str, path: str) -> Program:
    try:
        version = re.search(r"(\d+\.\d+\.\d+)", _run([path, "--version"]))
    except (OSError, subprocess.SubprocessError) as error:
        return Program(name=name, path=path, error=str(error))
    return Program(name=name, path=path, version=version[1] if version else None, properties=libvirt_elements())


def libvirt_elements(schema: str = SCHEMA) -> dict[str, dict[str, str | None]]:
    """Definition -> attributes that libvirt's schema of domains has in it; empty without a schema."""
    try:
        with open(schema, encoding="utf-8", errors="replace") as file:
            text = file.read(_SCHEMA_LIMIT)
    except OSError:
        return {}  # the package that has it need not be installed: the version is all that is known then
    found: dict[str, dict[str, str | None]] = {}
    for name in PROBED_ELEMENTS:
        if block := re.search(rf'<define name="{name}">(.*?)</define>', text, re.DOTALL):
            found[name] = dict.fromkeys(re.findall(r'<attribute name="(\w+)"', block[1]))
    return found


def _run(command: list[str], *, expect_failure: bool = False) -> str:
    done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=not expect_failure, stdin=subprocess.DEVNULL)
    return done.stdout.decode(errors="backslashreplace")
