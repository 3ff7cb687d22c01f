"""The options of ``plan``, and the request that they make."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeVar

from wizard.base.address import Address
from wizard.base.errors import UsageError
from wizard.base.text import is_number, parse_size, visible
from wizard.cli.options import add_vmm
from wizard.plan.properties import AUTO, DECLARED, Properties

T = TypeVar("T")


def add_plan_options(command: argparse.ArgumentParser) -> None:
    """What ``plan`` can be asked for (sources: design-options)."""
    vm = "a VM and its functions; once per VM"
    command.add_argument("--vm", metavar="NAME=FUNCTION[,FUNCTION…]", action="append", default=[], required=True, help=vm)
    command.add_argument("--memory", metavar="[NAME=]SIZE", action="append", default=[], help="for example 4G, or web=16G (default 1G)")
    command.add_argument("--cpus", metavar="[NAME=]N", action="append", default=[], help="default 2")
    command.add_argument("--hugepages", metavar="[NAME=]SIZE", action="append", default=[], help="back the memory with pages of this size")
    command.add_argument("--firmware", metavar="PATH", help="UEFI image (default: the AAVMF of the host's firmware descriptors)")
    command.add_argument("--disk", metavar="[NAME=]PATH", action="append", default=[])
    command.add_argument("--network", metavar="[NAME=]user|tap:IF|bridge:IF", action="append", default=[])
    command.add_argument("--mode", choices=["accel", "virtio-iommu", "none"], default="accel", help="what the guest is to see (default accel)")
    command.add_argument("--fall-back", action="store_true", help="allow the next lower modes")
    command.add_argument("--layout", choices=["per-smmu", "per-function"], default="per-smmu")
    command.add_argument("--split", metavar="NAME", action="append", default=[], help="an SMMU whose functions get a vSMMU each")
    for one in DECLARED:
        if one.switch:
            command.add_argument(f"--{one.name}", choices=["on", "off", AUTO])
        else:
            command.add_argument(f"--{one.name}", metavar="|".join((*one.words[1:], AUTO) if one.words else ("BITS", AUTO)))
    hotplug = "leave a port free for one of these functions"
    command.add_argument("--hotplug", metavar="[NAME=]FUNCTION[,FUNCTION…]", action="append", default=[], help=hotplug)
    command.add_argument("--target", metavar="qemu=VERSION", help="plan for this QEMU (default: the one found, else the newest known)")
    add_vmm(command, "what starts the VM (default qemu)")
    command.add_argument("--assume-accel", action="store_true", help="take an unknown verdict or an assumed value for a yes")
    command.add_argument("--allow-in-use", metavar="FUNCTION", action="append", default=[], help="plan a function that the host uses (needs --yes)")
    command.add_argument("--yes", action="store_true", help="confirm --allow-in-use")
    command.add_argument("--user", metavar="NAME", default="root", help="the user that the VM runs as (default root)")


def request_of(arguments: argparse.Namespace) -> Any:
    """The Request that the options make; UsageError for words that can't mean anything."""
    from wizard.plan.request import (
        DEFAULT_CPUS,
        DEFAULT_MEMORY,
        FirmwareRequest,
        FunctionRequest,
        HotplugRequest,
        Layout,
        Mode,
        Request,
        VmRequest,
    )

    if arguments.vmm == "openvmm" and arguments.target:
        raise UsageError(f"--vmm openvmm and --target {visible(arguments.target)} name two VMMs.", "Give one of them.")
    vms = [_vm(text) for text in arguments.vm]
    names = [name for name, _ in vms]
    memory = _per_vm(arguments.memory, names, "--memory", _size)
    cpus = _per_vm(arguments.cpus, names, "--cpus", _count)
    hugepages = _per_vm(arguments.hugepages, names, "--hugepages", _size)
    disks = _lists(arguments.disk, names, _disk)
    networks = _lists(arguments.network, names, _network)
    hotplug = _lists(arguments.hotplug, names, lambda text: HotplugRequest(functions=tuple(_functions(text))))
    if arguments.allow_in_use and not arguments.yes:
        raise UsageError("--allow-in-use takes a function away from the host.", "Confirm it with --yes.")
    allowed = _functions(",".join(arguments.allow_in_use))
    asked = {address for _, addresses in vms for address in addresses} | {a for free in hotplug.values() for one in free for a in one.functions}
    if vain := [address for address in allowed if address not in asked]:
        raise UsageError(f"--allow-in-use {vain[0]}: no VM asks for this function.", "Name a function of --vm or --hotplug.")
    wishes = {one.name: getattr(arguments, one.name) for one in DECLARED}
    properties = Properties(**{one.name: wishes[one.name] if one.switch else _width(wishes[one.name], f"--{one.name}") for one in DECLARED})
    return Request(
        vms=tuple(
            VmRequest(
                name=name,
                functions=tuple(FunctionRequest(host=address) for address in addresses),
                memory=memory.get(name, DEFAULT_MEMORY),
                cpus=cpus.get(name, DEFAULT_CPUS),
                hugepages=hugepages.get(name),
                firmware=FirmwareRequest(code=arguments.firmware) if arguments.firmware else None,
                disks=tuple(disks.get(name, ())),
                networks=tuple(networks.get(name, ())),
                mode=Mode(arguments.mode),
                fall_back=arguments.fall_back,
                layout=Layout(arguments.layout),
                split=tuple(arguments.split),
                properties=properties,
                hotplug=tuple(hotplug.get(name, ())),
                user=arguments.user,
                target="openvmm" if arguments.vmm == "openvmm" else arguments.target,
                assume_accel=arguments.assume_accel,
                allow_in_use=tuple(allowed),
            )
            for name, addresses in vms
        )
    )


def _vm(text: str) -> tuple[str, list[str]]:
    name, equals, functions = text.rpartition("=")
    if not equals or not name:
        raise UsageError(f"--vm {visible(text)} names no VM.", "Write --vm NAME=FUNCTION[,FUNCTION…], for example --vm web=0000:14:00.0.")
    return name, _functions(functions)


def _functions(text: str) -> list[str]:
    found = []
    for word in filter(None, text.split(",")):
        try:
            found.append(str(Address.parse(word.strip())))
        except ValueError as error:
            raise UsageError(f"{visible(word)} is not a PCI address.", "Write it as DDDD:BB:DD.F, for example 0000:14:00.0.") from error
    return found


def _split(text: str, names: list[str]) -> tuple[str | None, str]:
    name, equals, rest = text.partition("=")
    return (name, rest) if equals and name in names else (None, text)


def _per_vm(words: list[str], names: list[str], option: str, convert: Callable[[str, str], T]) -> dict[str, T]:
    found: dict[str, T] = {}
    for text in sorted(words, key=lambda word: _split(word, names)[0] is not None):  # one VM's own value beats the common one
        name, rest = _split(text, names)
        value = convert(rest, option)
        found.update({name: value} if name is not None else dict.fromkeys(names, value))
    return found


def _lists(words: list[str], names: list[str], convert: Callable[[str], T]) -> dict[str, list[T]]:
    found: dict[str, list[T]] = {}
    for text in words:
        name, rest = _split(text, names)
        if name is None and len(names) > 1:
            raise UsageError(f"{visible(text)} does not say for which VM it is.", f"Write NAME=…, with one of: {', '.join(map(visible, names))}.")
        found.setdefault(name if name is not None else names[0], []).append(convert(rest))
    return found


def _size(text: str, option: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        fix = "Write for example 4G or 512M, or NAME=4G with the name of a VM."
        raise UsageError(f"{option} {visible(text)} is no size{_stranger(text)}.", fix) from error


def _count(text: str, option: str) -> int:
    if not is_number(text):
        raise UsageError(f"{option} {visible(text)} is no number{_stranger(text)}.", "Write for example 4, or NAME=4 with the name of a VM.")
    return int(text)


def _stranger(text: str) -> str:
    name, equals, _ = text.rpartition("=")
    return f", and no --vm is named {visible(name)}" if equals else ""


def _width(text: str | None, option: str) -> Any:
    if text is None or text == "auto":
        return text
    if not is_number(text):
        raise UsageError(f"{option} {visible(text)} is no width.", "Write a number of bits, or auto.")
    return int(text)


def _disk(text: str) -> Any:
    from wizard.plan.request import DiskRequest

    return DiskRequest(path=text, format="qcow2" if text.endswith(".qcow2") else "raw")


def _network(text: str) -> Any:
    from wizard.plan.request import NetworkRequest

    kind, _, source = text.partition(":")
    if kind not in ("user", "tap", "bridge") or (kind == "user") != (not source):
        raise UsageError(f"--network {visible(text)} is none that QEMU knows.", "Write user, tap:INTERFACE or bridge:BRIDGE.")
    return NetworkRequest(kind=kind, source=source or None)  # type: ignore[arg-type]
