"""The words of the command that does what the VMs screen does. No Textual here."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from wizard.base.text import size
from wizard.plan.request import VmRequest


def plan_words(vms: Sequence[VmRequest], vm: VmRequest | None = None, *, output: str | None = None) -> str:
    """``plan`` with the options that differ from their defaults: for one VM, or for all. What has no option is in the profile alone."""
    chosen = [vm] if vm is not None else list(vms)
    if not chosen:
        return "plan --vm NAME=FUNCTION,..."
    words = ["plan"]
    for one in chosen:
        words += ["--vm", f"{one.name}={','.join(function.host for function in one.functions)}"]
    several = len(chosen) > 1
    for one in chosen:
        words += _options(one, f"{one.name}=" if several else "")
    first = chosen[0]
    for option, value in (
        ("--mode", first.mode if first.mode != "accel" else None),
        ("--layout", first.layout if first.layout != "per-smmu" else None),
    ):
        words += [option, str(value)] if value else []
    words += ["--fall-back"] if first.fall_back else []
    for name, wish in first.properties.asked():
        words += [f"--{name}", str(wish)]
    words += ["--target", first.target] if first.target else []
    words += ["--user", first.user] if first.user != "root" else []
    words += ["--assume-accel"] if first.assume_accel else []
    words += ["-o", output] if output else []
    return shlex.join(words)


def _options(vm: VmRequest, name: str) -> Iterator[str]:
    default = VmRequest(name=vm.name)
    if vm.memory != default.memory:
        yield from ("--memory", f"{name}{size(vm.memory)}")
    if vm.cpus != default.cpus:
        yield from ("--cpus", f"{name}{vm.cpus}")
    if vm.hugepages:
        yield from ("--hugepages", f"{name}{size(vm.hugepages)}")
    for disk in vm.disks:
        yield from ("--disk", f"{name}{disk.path}")
    for network in vm.networks:
        yield from ("--network", f"{name}{network.kind}{':' + network.source if network.source else ''}")
    for port in vm.hotplug:
        yield from ("--hotplug", f"{name}{','.join(port.functions)}")
