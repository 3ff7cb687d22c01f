"""A flattened device tree (.dtb) as the directory that /sys/firmware/devicetree/base is: Devicetree Specification 0.4, chapter 5.

The kernel unflattens the very same bytes (drivers/of/fdt.c). Source text (.dts) is compiled by dtc, where that is installed; its own
directives that read other files are refused, since the text may come from anybody and be read by root.
"""

from __future__ import annotations

import shutil
import subprocess

from wizard.base.errors import InputError, ProgramError
from wizard.base.text import size, visible
from wizard.facts.devicetree import BASE, DEPTH, NODES
from wizard.facts.memorytree import MemoryTree

MAGIC = b"\xd0\x0d\xfe\xed"
LIMIT = 16 << 20  # bytes; 100 KB is usual, FDT_MAX_SIZE of the kernel is 2 MiB
_PROPERTIES = 1 << 20
_BEGIN_NODE, _END_NODE, _PROP, _NOP, _END = 1, 2, 3, 4, 9
_HEADER = 40  # bytes, of version 17; version 16 lacks the last word
_TIMEOUT = 20  # seconds; 0.02 s is usual
_FIX = "Give a whole .dtb, as dtc or the boot loader writes it, or /sys/firmware/fdt."


def is_flat_tree(data: bytes) -> bool:
    """Whether bytes begin as a flattened device tree does."""
    return data.startswith(MAGIC)


def unflatten(data: bytes, name: str) -> MemoryTree:
    """The nodes and properties as files below ``BASE``; ``InputError`` says what is wrong with the bytes."""
    tree = MemoryTree(name)
    try:
        _unflatten(data, tree)
    except ValueError as error:
        raise InputError(f"{visible(name)} is a damaged device tree: {error}.", _FIX) from error
    return tree


def _unflatten(data: bytes, tree: MemoryTree) -> None:
    if len(data) < _HEADER:
        raise ValueError("its header is cut short")
    _, total, structure, strings, _, version, compatible, _, strings_size, structure_size = (_word(data, at) for at in range(0, _HEADER, 4))
    if total > len(data) or total > LIMIT:
        raise ValueError(f"it says that it has {total} bytes, and {len(data)} are there" if total <= LIMIT else f"more than {size(LIMIT)}iB")
    if version < 16 or compatible > 17:
        raise ValueError(f"version {version} of the format is not read")
    end = structure + structure_size if version >= 17 else total
    if structure % 4 or max(structure, end, strings + strings_size) > total:
        raise ValueError("its blocks lie outside of it")
    names = data[strings : strings + strings_size]
    above: list[str] = []
    at, nodes, properties = structure, 0, 0
    while at + 4 <= end:
        token, at = _word(data, at), at + 4
        if token == _BEGIN_NODE:
            stop = data.find(b"\0", at, end)
            if stop < 0 or nodes > NODES or len(above) > DEPTH:
                raise ValueError("a node's name has no end" if stop < 0 else "it has more nodes than any device tree")
            above.append(_leaf(data[at:stop]) if above else BASE)
            tree.enter("/".join(above))
            at, nodes = _aligned(stop + 1), nodes + 1
        elif token == _END_NODE:
            if not above:
                raise ValueError("a node ends that has not begun")
            above.pop()
        elif token == _PROP:
            length, offset = _word(data, at), _word(data, at + 4)
            stop, properties = names.find(b"\0", offset), properties + 1
            if at + 8 + length > end or offset >= len(names) or stop < 0 or not above or properties > _PROPERTIES:
                raise ValueError("a property lies outside of it")
            path = "/".join([*above, _leaf(names[offset:stop])])
            tree.files[path] = data[at + 8 : at + 8 + length]
            tree.enter(path)
            at = _aligned(at + 8 + length)
        elif token == _END:
            if above:
                raise ValueError("it ends within a node")
            return
        elif token != _NOP:
            raise ValueError(f"{token:#x} at byte {at - 4} is no token")
    raise ValueError("it has no end")


def _word(data: bytes, at: int) -> int:
    if at + 4 > len(data):
        raise ValueError("it is cut short")
    return int.from_bytes(data[at : at + 4], "big")


def _aligned(at: int) -> int:
    return (at + 3) & ~3


def _leaf(name: bytes) -> str:
    text = name.decode("ascii", errors="backslashreplace").replace("/", "!")
    if not text or text in (".", "..") or len(text) > 255:
        raise ValueError("a name is none of a node or property")
    return text


def is_source(text: str) -> bool:
    """Whether text begins as the source of a device tree does, after its comments."""
    return "/dts-v1/" in text[:65536] and "{" in text


def compile_source(text: str, name: str) -> bytes:
    """The flattened tree of a source, by dtc. ``ProgramError`` where that is not installed, ``InputError`` where it does not take the text."""
    if len(text) > LIMIT:
        raise InputError(f"{visible(name)} holds more than {size(LIMIT)}iB.", "No device tree has that many.")
    if "/include/" in text or "/incbin/" in text or "\n#include" in text or text.startswith("#include"):
        raise InputError(f"{visible(name)} takes other files in, which is not done here.", "Compile it yourself (`dtc -O dtb`), and give the .dtb.")
    if (dtc := shutil.which("dtc")) is None:
        raise ProgramError(
            f"dtc, which {visible(name)} has to be compiled with, is not installed.", "Install device-tree-compiler, or give the .dtb."
        )
    try:
        done = subprocess.run(
            [dtc, "-q", "-I", "dts", "-O", "dtb", "-o", "-", "-"], input=text.encode(errors="replace"), capture_output=True, timeout=_TIMEOUT, cwd="/"
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ProgramError(f"dtc did not compile {visible(name)}: {visible(str(error))}.", "Give the .dtb.") from error
    if done.returncode:
        said = done.stderr.decode(errors="backslashreplace").strip().split("\n")[0] or f"status {done.returncode}"
        raise InputError(f"dtc does not take {visible(name)}: {visible(said[:200])}.", "Give a whole source, or the .dtb.")
    return done.stdout
