"""UEFI images by QEMU's firmware descriptors (docs/interop/firmware.json): /etc goes before /usr, then by name."""

from __future__ import annotations

import posixpath

import msgspec

from wizard.facts.model import FirmwareImage
from wizard.facts.tree import Tree


class _Executable(msgspec.Struct):
    filename: str = ""
    format: str = "raw"


class _Mapping(msgspec.Struct):
    device: str = ""
    executable: _Executable | None = None
    nvram_template: _Executable | None = msgspec.field(name="nvram-template", default=None)


class _Target(msgspec.Struct):
    architecture: str = ""
    machines: list[str] = []


class _Descriptor(msgspec.Struct):
    interface_types: list[str] = msgspec.field(name="interface-types", default_factory=list)
    mapping: _Mapping = msgspec.field(default_factory=_Mapping)
    targets: list[_Target] = []
    features: list[str] = []


def find_firmware(tree: Tree) -> tuple[FirmwareImage, ...]:
    """UEFI images for aarch64 by QEMU's firmware descriptors, in order of priority (docs/interop/firmware.json)."""
    found: dict[str, FirmwareImage] = {}
    for directory in ("etc/qemu/firmware", "usr/share/qemu/firmware"):
        for name in tree.names(directory):
            data = tree.data(f"{directory}/{name}") if name.endswith(".json") and name not in found else None
            if not data:
                continue
            try:
                descriptor = msgspec.json.decode(data, type=_Descriptor)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                tree.unread[f"/{directory}/{name}"] = f"no firmware descriptor: {error}"
                continue
            machines = [machine for target in descriptor.targets if target.architecture == "aarch64" for machine in target.machines]
            executable = descriptor.mapping.executable
            if "uefi" not in descriptor.interface_types or not machines or executable is None or not executable.filename:
                continue
            template = descriptor.mapping.nvram_template
            found[name] = FirmwareImage(
                descriptor="/" + posixpath.join(directory, name),
                executable=executable.filename,
                executable_format=executable.format,
                nvram_template=template.filename if template else None,
                features=tuple(descriptor.features),
                machines=tuple(machines),
            )
    return tuple(found[name] for name in sorted(found))
