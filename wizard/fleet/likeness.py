"""What a summary rests on: machines of one model are judged once.

Most hosts of a fleet are of a few models. They differ in names, serial numbers, the addresses that firmware gave, status bits, and the times in
their logs, and no summary tells of these. Every one is made of its host *without* them (``likeness``), the first of a model like the hundredth,
so that no answer depends on what was read before; and what it was made of is the key under which it is found again, byte for byte.

What is left out is said here alone, and all else is in the key: a fact that is new, and what nobody thought of, tells hosts apart. Tests hold
what is left out against what is read of the facts while a summary is made, and summaries against those of the whole facts.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from wizard.facts.layout import layout_of
from wizard.facts.model import Facts, Identity, Moment, PciFunction
from wizard.facts.vfio import NOIOMMU
from wizard.fleet.summary import HostSummary, nodes_of, summary_of
from wizard.host.build import host_of
from wizard.host.function import CXL_VENDOR
from wizard.host.log.parse import KernelLog, parse_log

_KEPT, _LARGE = 512, 2048  # summaries in a process, and functions of a host whose summary is kept
_OWNED = ("vm", "domain", "pool")  # uses that are told beside a function, and do not stop anybody
_BAD_STREAM = ("event 0x02 ", "C_BAD_STREAMID")  # events of the moment that a verdict names
_STAMP = re.compile(r"\[ *\d{1,9}\.\d{6}\] ")
_COMMAND_LINE = "Kernel command line: "
_WIDE = 1024  # characters: lines are cut far beyond (``wizard.facts.logtext.LINE``)
_UNUSED = " ".join(["0x0000000000000000"] * 3)
_CXL = CXL_VENDOR.to_bytes(2, "little")
_made: dict[bytes, HostSummary] = {}


def summary_like(facts: Facts) -> HostSummary:
    """The summary of a host, worked out unless one that is like it was met before."""
    like = likeness(facts)
    key = hashlib.blake2b(msgspec.msgpack.encode(like), digest_size=32).digest()
    found = _made.get(key)
    if found is None:
        found = summary_of(host_of(like))
        if len(_made) >= _KEPT:
            _made.clear()
        if len(facts.functions) <= _LARGE:
            _made[key] = found
    # Told as they are; nothing rests on them.
    return msgspec.structs.replace(found, memory=facts.memory_total, nodes=nodes_of(facts))


def likeness(facts: Facts) -> Facts:
    """The facts without what two machines of one model differ in."""
    moment = facts.moment
    return msgspec.structs.replace(
        facts,
        identity=Identity(vendor=facts.identity.vendor, product=facts.identity.product),
        kernel=msgspec.structs.replace(facts.kernel, cmdline=None),
        memory_total=None,
        nodes=(),
        functions=tuple(map(_alike, facts.functions)),
        log=_timeless(facts.log),
        in_use=tuple(use for use in facts.in_use if use.kind not in _OWNED),
        moment=Moment(its=moment.its, log=moment.log if any(name in line for line in moment.log for name in _BAD_STREAM) else ()),
    )


def _alike(function: PciFunction) -> PciFunction:
    cdev = function.vfio_dev
    return msgspec.structs.replace(
        function,
        config=_config(function.config),
        resource=_sizes(function.resource),
        serial_number=None,
        net=(),
        block=(),
        # Their numbers are given as functions are bound; a name without an IOMMU is a verdict.
        vfio_dev=cdev if not cdev or any(name.startswith(NOIOMMU) for name in cdev) else ("vfio",),
    )


def _config(config: str) -> str:
    data = bytes.fromhex(config)
    layout, number = layout_of(data)
    if not layout.own:
        return config  # cut short, damaged, or silent: all ones are no status
    # Whether it is a CXL device is first looked for anywhere in these bytes, a serial number included.
    without = layout.moving if _CXL in data else layout.moving | layout.own
    return (number & ~without).to_bytes(layout.length, "little").rstrip(b"\0").hex()


def _sizes(resource: str) -> str:
    """Each region of a function as large as it is, at address 0; the text itself where it is not what the kernel writes."""
    lines = []
    for line in resource.rstrip().split("\n"):
        if line != _UNUSED:
            try:
                first, last, flags = line.split(" ")
                start, end = int(first, 16), int(last, 16)
            except ValueError:
                return resource
            if 0 <= start <= end < 1 << 64:
                line = f"0x0 {end - start:#x} {flags}"
        lines.append(line)
    return "\n".join(lines)


def _timeless(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Lines that all begin with the kernel's own stamp, at one time and without the command line; others as they are: a stamp tells which
    lines belong together.
    """
    found = []
    for line in lines:
        stamp = _STAMP.match(line)
        if stamp is None or len(line) > _WIDE:
            return lines
        found.append("[    0.000000] " + _known_line(line[stamp.end() :]))
    return tuple(found)


def _known_line(text: str) -> str:
    if not text.startswith(_COMMAND_LINE):
        return text
    told = parse_log((text,))
    return f"{_COMMAND_LINE}-" if told == msgspec.structs.replace(KernelLog(), command_line=told.command_line) else text
