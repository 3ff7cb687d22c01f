"""A machine out of the words of a command line; ``ValueError`` says in a sentence without its full stop what is wrong with one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from wizard.arch.registers import GBPA
from wizard.base.text import parse_size
from wizard.smmu.ids import Ids
from wizard.smmu.machine import Machine
from wizard.smmu.memory import RAM, Memory
from wizard.smmu.server.words import Refused, name, number
from wizard.smmu.shared import SharedMemory, Window

_LIKE = {"everything": Ids.everything, "qemu": Ids}
_IDS = ("idr0", "idr1", "idr3", "idr5", "aidr")


def machine_of(smmus: Iterable[str], ram: Iterable[str], files: Iterable[str], make: Callable[[Memory], Machine] = Machine) -> Machine:
    """A machine with the SMMUs of ``NAME[@BASE][,KEY=VALUE…]``, memory of ``START+SIZE`` and shared memory of ``FILE@ADDRESS``.

    Without an SMMU there is one, ``smmu0``; without memory and files, memory is as ``translate`` has it. ``make`` makes the machine of a memory.
    ``OSError`` for a file that can't be mapped.
    """
    try:
        windows = [_window(one) for one in files]
        ranges = [_range(one) for one in ram] or ([] if windows else list(RAM))
        for (first, end), (start, _) in zip(sorted(ranges), sorted(ranges)[1:], strict=False):
            if start < end:
                raise ValueError(f"memory from {first:#x} and from {start:#x} overlap")
        for start, end in ranges:
            for window in windows:
                if start < window.start + window.size and window.start < end:
                    raise ValueError(f"memory from {start:#x} overlaps the file at {window.start:#x}")
        machine = make(SharedMemory(windows, ranges) if windows else Memory(ranges))
        for one in list(smmus) or ["smmu0"]:
            _add(machine, one)
    except Refused as error:
        raise ValueError(str(error)) from None
    return machine


def _range(text: str) -> tuple[int, int]:
    start, plus, size = text.partition("+")
    if not plus:
        raise ValueError(f"{text!r} is no range of memory: like 0x40000000+1G")
    first = number(start, "address")
    end = first + (number(size, "size") if size[:2] in ("0x", "0X") else parse_size(size))
    if first % 4096 or end % 4096 or not first < end <= 1 << 64:
        raise ValueError(f"{text!r} is not whole pages of 4 KiB in the address space")
    return first, end


def _window(text: str) -> Window:
    path, at, address = text.rpartition("@")
    if not at:
        raise ValueError(f"{text!r} says no address: like FILE@0x40000000")
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return Window.of_file(descriptor, number(address, "address"))
    finally:
        os.close(descriptor)


def _add(machine: Machine, text: str) -> None:
    placed, *settings = text.split(",")
    called, at, base = placed.partition("@")
    given: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or key in given or key not in ("like", "gbpa", "caches", *_IDS):
            raise ValueError(f"{setting!r} of {called!r} is not known: like=, gbpa=, caches=, {', '.join(f'{one}=' for one in _IDS)}")
        given[key] = value
    if (like := given.get("like", "everything")) not in _LIKE:
        raise ValueError(f"{like!r} is no SMMU that is known: {' or '.join(_LIKE)}")
    if (caches := given.get("caches", "on")) not in ("on", "off"):
        raise ValueError(f"caches are on or off, not {caches!r}")
    usual = _LIKE[like]()
    ids = Ids(**{one: number(given[one], one, 32) if one in given else getattr(usual, one) for one in _IDS})
    if not (ids.features.s1p or ids.features.s2p) or not ids.features.granules:
        raise ValueError(f"{called!r} would be an SMMU without any stage or granule")
    gbpa = number(given["gbpa"], "gbpa", 32) if "gbpa" in given else None
    if gbpa is not None and GBPA(gbpa).undeclared:
        raise ValueError(f"gbpa {gbpa:#x} has bits that are reserved")
    machine.add(name(called), ids, number(base, "base") if at else None, caches=caches == "on", gbpa=gbpa)
