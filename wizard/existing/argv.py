"""Words of a QEMU command line -> the neutral model: each word ends as carried, kept aside, plain or named. Nothing is judged here.

``read_argv(command)`` gives a ``Guest`` whose devices QEMU has placed (``qemu/placement``): what it had to fill in is in ``implied``.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from wizard.existing.guest import Device, Function, Guest, Left, Origin
from wizard.existing.qemu import grammar
from wizard.existing.qemu.backends import Backends
from wizard.existing.qemu.devices import Devices
from wizard.existing.qemu.leftover import around, of_functions, of_option
from wizard.existing.qemu.machine import Parts, Reader
from wizard.existing.qemu.options import Key, Option, read_options, twice
from wizard.existing.qemu.placement import placed
from wizard.existing.words import Command
from wizard.existing.words.program import architecture


def read_argv(command: Command, source: str) -> Guest:
    """The VM that a command line starts."""
    options, left = read_options(command.words)
    _applied(options)
    for option in options:
        left += option.wrong
        left += twice(option)
    backends = Backends(options)
    reader = Devices(options, backends, command.descriptors, nodefaults=any(option.name == "nodefaults" for option in options))
    reader.read()
    parts = Reader(options, backends).read()
    # The table is that of arm64's virt: what other architectures, machines and newer QEMUs have is not judged by it.
    judged = architecture(command.program.text) in (None, "aarch64") and (parts.machine.type or "virt").startswith("virt")
    judged = judged and not grammar.newer(command.version)
    every = placed([*reader.default, *(made.device for made in reader.made)])
    devices = every[len(reader.default) :]
    owner = {id(made.option): device for made, device in zip(reader.made, devices, strict=True)}
    kept = {id(made.option) for made in reader.made if made.kept}
    left += parts.left
    left += of_functions(devices)
    for option in options:
        left += of_option(option, owner.get(id(option)), id(option) in kept, backends, judged)
    left += around(command)
    return _guest(command, source, parts, every, (*command.left, *left))


def _guest(command: Command, source: str, parts: Parts, devices: tuple[Device, ...], left: tuple[Left, ...]) -> Guest:
    memory = parts.memory
    if command.memlock is not None:
        memory = replace(memory, memlock=command.memlock)
    return Guest(
        origin=Origin.QEMU, source=source, where=command.program.where(), places=parts.places, name=parts.name, uuid=parts.uuid,
        emulator=command.program.text, machine=replace(parts.machine, arch=architecture(command.program.text)), memory=memory, cpus=parts.cpus,
        nodes=parts.nodes, firmware=parts.firmware, iommufds=_shared_first(parts.iommufds, devices), devices=devices, qmp=parts.qmp,
        user=command.user or parts.user, left=left,
    )  # fmt: skip


def _shared_first(iommufds: tuple[str, ...], devices: Sequence[Device]) -> tuple[str, ...]:
    used = [device.iommufd for device in devices if isinstance(device, Function)]
    return tuple(sorted(iommufds, key=lambda id: -used.count(id)))


def _applied(options: Sequence[Option]) -> None:
    """-global DRIVER.PROPERTY=VALUE and -set device.ID.PROPERTY=VALUE, put where they work: on devices that do not say otherwise."""
    for option in options:
        if option.name not in ("global", "set") or option.value is None:
            continue
        path, _, value = option.value.text.partition("=")
        subject, _, name = path.removeprefix("device.").rpartition(".")
        start = len(path) + 1
        for device in options:
            if device.name != "device" or device.json:
                continue
            mine = device.get("driver") == subject if option.name == "global" else device.get("id") == subject and path.startswith("device.")
            if mine and (option.name == "set" or device.find(name) is None):
                device.keys.append(Key(name, value, start, len(option.value.text), option.value))
                option.taken = True
