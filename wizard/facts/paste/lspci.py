"""lspci's output in its usual forms: one line for each function, words below it (-v, -vv, -k), its bytes (-x, -xxx, -xxxx), in any mixture.

Formats: pciutils 3.14, lspci.c (show_terse, show_verbose, show_hex_dump). A domain that is not written is 0000. Names without ids are looked
up in this machine's pci.ids; those that it does not know leave the function without ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from wizard.facts.content import without_zeros
from wizard.facts.held import Place
from wizard.facts.paste.combine import address_of
from wizard.facts.paste.configwords import Words, bits, capability_lists
from wizard.facts.paste.dumps import unpacked
from wizard.facts.paste.piece import Piece
from wizard.facts.pci_ids import PciIds

ADDRESS = r"(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7]"
_LINE = rf"[ \t]{{0,8}}({ADDRESS}) (\S.{{0,600}})$"
_HEAD = re.compile(_LINE, re.MULTILINE)
# What is below a function's line begins behind a line end: a pattern that says so is tried there alone, one with ^ at each character.
_HEAD_BELOW = re.compile(r"\n" + _LINE, re.MULTILINE)
_IDS = re.compile(r"(.{0,200}?) ?\[([0-9a-f]{4})\](?: \(\w[^)]{0,30}\))?: (.{0,400}?) ?\[([0-9a-f]{4}):([0-9a-f]{4})\](.*)")
_NUMBERS = re.compile(r"(?:Class )?([0-9a-f]{4}): ([0-9a-f]{4}):([0-9a-f]{4})(?![0-9a-f])(.*)")
_WORDS = re.compile(r"([A-Z0-9][^:\[\]]{2,80}): (.{2,400}?)((?: \((?:rev|prog-if) .*)?)$")
_REVISION = re.compile(r"\(rev ([0-9a-f]{2})\)")
_INTERFACE = re.compile(r"\(prog-if ([0-9a-f]{2})")
_DUMP = re.compile(r"^[ \t]{0,8}([0-9a-f]{2,3}):((?: [0-9a-f]{2}){1,16})[ \t]*$", re.MULTILINE)
_LENGTHS = (64, 128, 256, 4096)
_BLANK = re.compile(r"\n[ \t]*\n(?=\S)")
_END = re.compile(rf"{_BLANK.pattern}|^\S{{0,80}}[$#] .*$|^[ \t]*[$#] (?:sudo |ls|dmesg|cat|uname).*$", re.MULTILINE)
_CUT = re.compile(r"\n[ \t]*(?:\.\.\.+|…|\[\.\.\.\]|<?(?:snip|cut|truncated)>?)[ \t]*$", re.MULTILINE | re.IGNORECASE)
# Below a function's line hardly any line begins so: at its left edge (bytes, a prompt, another function), with an address, or with what may
# stand for something that was left out. The look ahead is for speed.
_ODD = re.compile(
    r"\n(?:[^ \t]|[ \t]+(?=[0-9a-f\n$#.…\[<sScCtT\u017f])(?:[0-9a-f]{2,8}:[0-9a-f]{2}[.:]|\n|[$#]|\.\.\.|…|\[\.\.\.|<?(?i:snip|cut|truncated)))"
)
_COMMAND = {"I/O": 0, "Mem": 1, "BusMaster": 2, "SpecCycle": 3, "MemWINV": 4, "VGASnoop": 5, "ParErr": 6, "SERR": 8, "FastB2B": 9, "DisINTx": 10}
_REGION = re.compile(
    r"\n[ \t]*Region (\d): (Memory|I/O ports) at (\S+)(?: \((32|64)-bit, (non-)?prefetchable\))?((?: \[[^\]\n]*\])*)[ \t]*$", re.MULTILINE
)
_AT = re.compile(r"[0-9a-f]{1,16}")
_SIZE = re.compile(r"\[size=(\d{1,6})([KMGT]?)\]")
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
# IORESOURCE_* (include/linux/ioport.h): I/O, memory, prefetchable, aligned to its size, 64-bit, no address assigned.
_IO, _MEM, _PREFETCH, _SIZEALIGN, _MEM_64, _UNSET = 0x100, 0x200, 0x2000, 0x40000, 0x100000, 0x20000000
# A region that the kernel knows and the function's own registers do not: that of a VF (PCIe 6.0, 9.3.4.1.11).
_VIRTUAL = re.compile(r"\n[ \t]*(?:Region \d: )?(?:Memory|I/O ports) at .*\[virtual\]", re.MULTILINE)
_VERBOSE = re.compile(r"\n[ \t]*(?:Control|Flags): ")
_SUBSYSTEM = re.compile(r"\n[ \t]*Subsystem: .*?\[?([0-9a-f]{4}):([0-9a-f]{4})\]?[ \t]*$", re.MULTILINE)
_NODE, _GROUP = re.compile(r"NUMA node:? (\d{1,5})\b"), re.compile(r"IOMMU group:? (\d{1,9})\b")
_DRIVER = re.compile(r"\n[ \t]*Kernel driver in use: (\S{1,64})[ \t]*$", re.MULTILINE)


def read(text: str, *, rebuild: bool = True) -> list[Piece]:
    """The pieces of lspci in a text; none where there is no such line. ``rebuild``: also configuration space out of words, which takes longest."""
    found: dict[str, dict[str, Any]] = {}
    told: dict[str, set[Place]] = {}
    forms: dict[str, None] = {}
    for address, head, body, whole in _functions(text):
        form, fields, places = _function(head, body, unpacked(body, text), whole=whole, rebuild=rebuild)
        if not fields:
            continue
        known = found.setdefault(address, {})
        if "config" in fields and "config" in known and (fields.get("config_known") or fields["config_length"] <= known["config_length"]):
            fields = {name: value for name, value in fields.items() if not name.startswith("config")}
        known |= fields
        told.setdefault(address, set()).update(places)
        forms.setdefault(form)
    pieces = []
    groups: dict[frozenset[Place], dict[str, dict[str, Any]]] = {}
    for address, fields in found.items():
        groups.setdefault(frozenset(told[address]), {})[address] = fields
    # lspci says IOMMU groups since pciutils 3.7: where none is named, nobody said so.
    grouped = any("iommu_group" in fields for fields in found.values())
    for held, functions in groups.items():
        holds = held if grouped else held - {Place.GROUP_LINKS}
        pieces.append(Piece(kind="lspci " + ", ".join(sorted(forms)), functions=functions, holds=holds))
    return pieces


def _functions(text: str) -> Iterator[tuple[str, str, str, bool]]:
    """(address, the rest of its line, what is below it, whether that is all of it)."""
    for piece in text.split("\n\n"):
        paragraph = piece.strip("\n")
        first = _HEAD.match(paragraph)
        if first and not _ODD.search(paragraph, first.end()):
            yield address_of(first[1]), first[2], paragraph[first.end() :], not text.endswith(paragraph)
            continue
        if first and (dump := paragraph.find("\n00: ", first.end())) >= 0 and not _HEAD_BELOW.search(paragraph, first.end(), dump):
            yield address_of(first[1]), first[2], paragraph[first.end() :], True
            continue
        heads = [*([first] if first else []), *_HEAD_BELOW.finditer(paragraph, first.end() if first else 0)]
        for place, head in enumerate(heads):
            last = place + 1 == len(heads)
            body = paragraph[head.end() : None if last else heads[place + 1].start() + 1]
            if last and (end := (_END if "$ " in body or "# " in body else _BLANK).search(body)):
                body = body[: end.start()]
            # lspci ends each function's words with an empty line: the text's own last one may have been cut.
            cut = (last and text.endswith(paragraph)) or _CUT.search(body) is not None
            yield address_of(head[1]), head[2], body, not cut


def _function(head: str, body: str, packed: bytes, *, whole: bool, rebuild: bool) -> tuple[str, dict[str, Any], set[Place]]:
    """(lspci's options that print so, fields, places that they hold); no fields where it is no line of lspci's."""
    fields, data = of_head(head), packed or (_dump(body) if "\n00: " in body else b"")
    if fields is None and not (len(data) >= _LENGTHS[0] and ": " in head):
        return "", {}, set()
    fields = fields or {}
    places: set[Place] = set()
    form = fields.pop("form", "")
    words = body if not data else body[: body.index("\n00: ")]
    verbose = _VERBOSE.search(words) is not None
    if words.strip():
        fields |= _of_words(words)
        if verbose or "Kernel driver in use:" in words or "Kernel modules:" in words or "\tSubsystem:" in words:
            places.add(Place.DRIVERS)
            form = "-k" if not verbose else form
    if verbose:
        places |= {Place.GROUP_LINKS} if whole else set()
        form = "-vv" if "Control: " in words else "-v"
        if (
            not ("[virtual]" in words and _VIRTUAL.search(words)) and data[:2] != b"\xff\xff"
        ):  # of a VF it prints the VF's own register, which is not the kernel's word
            fields.setdefault("revision", "0x00")  # lspci is silent about revision 0
    if data:
        _of_dump(fields, data)
        form = {64: "-x", 256: "-xxx", 4096: "-xxxx"}.get(len(data), "-x")
    elif verbose and rebuild and "vendor" in fields:
        _rebuilt(fields, words, whole=whole)
    elif "(rev ff)" in head and "Unknown header type 7f" in body:
        fields |= {"config": "ff" * 64, "config_length": 64}
    if "resource" in fields or (verbose and "Region" not in words and "Control: " in words):
        places.add(Place.RESOURCES)
    if fields.get("config_length"):
        places.add(Place.CONFIG)
    if fields.get("class_") is None:
        fields.pop("class_", None)
    return form, fields, places


def of_head(head: str) -> dict[str, Any] | None:
    """Fields out of what stands behind the address, with the ``form`` (options) that prints so; None where it is no line of lspci's."""
    if match := _IDS.match(head):
        class_, vendor, device, rest = match[2], match[4], match[5], match[6]
        fields: dict[str, Any] = {"form": "-nn", "class_name": match[1] or None}
    elif match := _NUMBERS.match(head):
        class_, vendor, device, rest = match[1], match[2], match[3], match[4]
        fields = {"form": "-n"}
    elif (match := _WORDS.match(head)) and (code := _class_of(match[1])) is not None:
        class_, rest = code, match[3]
        names = _ids_of(match[2])
        if names is None:
            return {"form": "(names alone)", "class_": _class(class_, rest), "class_name": match[1]}
        vendor, device = names
        fields = {"form": "(names alone)", "class_name": match[1]}
    else:
        return None
    revision = _REVISION.search(rest)
    fields |= {"vendor": f"0x{vendor}", "device": f"0x{device}", "class_": _class(class_, rest)}
    return fields | ({"revision": f"0x{revision[1]}"} if revision else {})


def _class(code: str, rest: str) -> str:
    interface = _INTERFACE.search(rest)
    return f"0x{code}{interface[1] if interface else '00'}"


@cache
def _names() -> PciIds:
    return PciIds.of_machine()


@cache
def _class_of(name: str) -> str | None:
    return _names().class_named(name)


@cache
def _ids_of(name: str) -> tuple[str, str] | None:
    return _names().ids_named(name)


def _of_words(words: str) -> dict[str, Any]:
    """What stands below a function's line, but for its configuration space."""
    fields: dict[str, Any] = {}
    before = words.partition("Capabilities:")[0]
    if match := _SUBSYSTEM.search(before):
        fields |= {"subsystem_vendor": f"0x{match[1]}", "subsystem_device": f"0x{match[2]}"}
    if node := _NODE.search(before):
        fields["numa_node"] = int(node[1])
    if group := _GROUP.search(before):
        fields["iommu_group"] = int(group[1])
    if (at := words.find("Kernel driver in use: ")) >= 0 and (match := _DRIVER.search(words, words.rfind("\n", 0, at))):
        fields["driver"] = match[1]
    if (resource := _resource(before)) is not None:
        fields["resource"] = resource
    return fields


def _resource(words: str) -> str | None:
    """The lines of sysfs ``resource``; None where a size is missing."""
    if "Region " not in words:
        return None
    lines = ["0x0000000000000000 0x0000000000000000 0x0000000000000000"] * 6
    count = 0
    for index, kind, at, width, other, rest in _REGION.findall(words):
        size = _SIZE.search(rest)
        if size is None or int(index) > 5:
            return None
        length = int(size[1]) << _UNITS[size[2]]
        flags = _SIZEALIGN | (_IO if kind != "Memory" else _MEM | (0 if other else _PREFETCH) | (_MEM_64 if width == "64" else 0))
        start = int(at, 16) if _AT.fullmatch(at) else 0
        flags |= 0 if start else _UNSET
        if start + length > 1 << 64:
            return None
        lines[int(index)] = f"{start:#018x} {start + length - 1:#018x} {flags:#018x}"
        count = max(count, int(index) + 1)
    return "\n".join(lines[:count]) if count else None


def _dump(body: str) -> bytes:
    """The bytes of a dump; empty where it has a hole or another length than lspci's."""
    start = body.find("\n00: ") + 1
    lines = body[start:].rstrip("\n").split("\n")
    if start and len(lines) in (4, 16, 256) and lines[-1].startswith(("30: ", "f0: ", "ff0: ")):
        try:
            data = bytes.fromhex("".join([line[4:] for line in lines]))
        except ValueError:
            data = b""
        if len(data) == 16 * len(lines):
            return data
    found = bytearray()
    for match in _DUMP.finditer(body):
        if int(match[1], 16) != len(found):
            break
        found += bytes.fromhex(match[2])
    return bytes(found[: max((length for length in _LENGTHS if length <= len(found)), default=0)])


def _of_dump(fields: dict[str, Any], data: bytes) -> None:
    """What the header says, where the line above it did not."""
    vendor, device = (int.from_bytes(data[at : at + 2], "little") for at in (0, 2))
    for name, value in (("vendor", f"{vendor:#06x}"), ("device", f"{device:#06x}"), ("revision", f"{data[8]:#04x}")):
        if name != "revision" or vendor != 0xFFFF:
            fields.setdefault(name, value)
    if data[:16] != b"\xff" * 16:
        code = f"0x{int.from_bytes(data[9:12], 'little'):06x}"
        fields["class_"] = code if fields.get("class_") is None or fields["class_"][:6] == code[:6] else fields["class_"]
        if data[0x0E] & 0x7F == 0 and vendor != 0xFFFF and any(data[0x2C:0x30]):
            fields.setdefault("subsystem_vendor", f"{int.from_bytes(data[0x2C:0x2E], 'little'):#06x}")
            fields.setdefault("subsystem_device", f"{int.from_bytes(data[0x2E:0x30], 'little'):#06x}")
    fields.setdefault("class_", "0xffffff")
    fields |= {"config": without_zeros(data).hex(), "config_length": len(data)}


def _rebuilt(fields: dict[str, Any], words: str, *, whole: bool) -> None:
    made = Words()
    before = words.partition("Capabilities:")[0]
    virtual = _VIRTUAL.search(before) is not None
    vendor, device = int(fields["vendor"], 16), int(fields["device"], 16)
    made.put(0, 4, 0xFFFFFFFF if virtual else vendor | device << 16)
    control = re.search(r"Control: (.*)", before)
    if control and (command := bits(control[1], _COMMAND)) is not None:
        made.put(4, 2, command)
    listed = "Capabilities:" in words
    status = re.search(r"\bStatus: Cap([+-])", before)
    made.put(6, 2, 0x10 if listed or not whole or (status and status[1] == "+") else 0)
    if fields.get("class_"):
        made.put(8, 4, int(fields["class_"], 16) << 8 | int(fields.get("revision", "0x00"), 16))
    if buses := re.search(r"Bus: primary=([0-9a-f]{2}), secondary=([0-9a-f]{2}), subordinate=([0-9a-f]{2})", before):
        made.data[0x0E] = 1
        made.put(0x18, 3, int(buses[1], 16) | int(buses[2], 16) << 8 | int(buses[3], 16) << 16)
    elif control and whole and "Region " not in before:
        made.put(0x10, 0x18, 0)
    # The list was there and is not printed: somebody left it out.
    lists = whole and (listed or not (status and status[1] == "+"))
    length = capability_lists(made, words, whole=lists)
    fields |= {"config": bytes(made.data[:length]).rstrip(b"\0").hex(), "config_length": length}
    fields["config_known"] = tuple((first, min(end, length)) for first, end in made.ranges() if first < length)
