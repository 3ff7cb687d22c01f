"""What is behind disks, network cards, memory and monitors: -drive, -blockdev, -netdev, -chardev, -object. Their order means nothing to QEMU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from wizard.existing.qemu.options import Option, text_of
from wizard.existing.qemu.values import switch


class Image(msgspec.Struct, frozen=True):
    """What a disk or a flash holds: a file and how it is read."""

    path: str
    format: str
    readonly: bool
    options: tuple[Option, ...]  # that it was written with
    extras: tuple[str, ...] = ()  # what else they say: cache.direct=on


# What QEMU or libvirt write on every image, and that changes nothing of what the guest sees.
_PLAIN_IMAGE = frozenset(
    ("node-name", "auto-read-only", "id", "if", "index", "unit", "media", "driver", "file", "filename", "read-only", "readonly", "format")
)
_NO_FILES = frozenset(("nbd", "rbd", "iscsi", "ssh", "http", "https", "json", "gluster", "nfs", "null-co", "fat"))
_FORMATS = frozenset({"raw", "qcow2"})
_FILES = frozenset({"file", "host_device"})


class Backends:
    """The backends of a command line by their ids."""

    def __init__(self, options: Iterable[Option]) -> None:
        self.nodes: dict[str, Option] = {}  # -blockdev by node-name, -drive if=none by id
        self.netdevs: dict[str, Option] = {}
        self.chardevs: dict[str, Option] = {}
        self.objects: dict[str, Option] = {}
        for option in options:
            id = option.get("id")
            if option.name == "blockdev" and (node := option.get("node-name")):
                self.nodes.setdefault(node, option)
            elif option.name == "drive":
                for name in (id, option.get("node-name")):
                    if name:
                        self.nodes.setdefault(name, option)
            elif option.name == "netdev" and id:
                self.netdevs.setdefault(id, option)
            elif option.name == "chardev" and id:
                self.chardevs.setdefault(id, option)
            elif option.name == "object" and id:
                self.objects.setdefault(id, option)

    def image(self, node: str) -> Image | None:
        """The image behind a node; None when it is none that a profile can say: a network, an encrypted one, a chain of several."""
        option = self.nodes.get(node)
        return image_of(option, self) if option is not None else None


def image_of(option: Option, backends: Backends) -> Image | None:
    """The image that a -drive or -blockdev names, with what is below it."""
    values: dict[str, Any] = {key.name: key.raw if option.json else key.text for key in option.keys}
    options = [option]
    if option.name == "drive":
        return _drive(option, values)
    extras = _extras(values)
    form = values.get("driver")
    readonly = values.get("read-only")
    if form in _FILES and isinstance(values.get("filename"), str):
        return Image(str(values["filename"]), "raw", _true(readonly), (option,), tuple(extras))  # a node without a format above it is raw
    if form not in _FORMATS:
        return None
    below = values.get("file")
    if isinstance(below, dict):  # nested JSON
        inner = below
    elif below is not None:
        under = backends.nodes.get(str(below))
        if under is None or under.name != "blockdev":
            return None
        inner = {key.name: key.raw if under.json else key.text for key in under.keys}
        options.append(under)
    else:
        inner = {name.removeprefix("file."): value for name, value in values.items() if name.startswith("file.")}
        extras = [extra for extra in extras if not extra.startswith("file.")]
    if inner.get("driver") not in _FILES or not isinstance(inner.get("filename"), str):
        return None
    extras += _extras(inner)
    return Image(str(inner["filename"]), str(form), _true(readonly), tuple(options), tuple(dict.fromkeys(extras)))


def _drive(option: Option, values: dict[str, Any]) -> Image | None:
    path = values.get("file")
    if not path or (":" in path and path.split(":", 1)[0] in _NO_FILES):
        return None
    form = values.get("format") or values.get("driver")
    # Without format= QEMU looks into the image; the name says what it is meant to be.
    form = form or ("qcow2" if path.endswith((".qcow2", ".qcow")) else "raw")
    if form not in _FORMATS or values.get("media") == "cdrom":
        return None
    return Image(path, form, _true(values.get("readonly", values.get("read-only"))), (option,), tuple(_extras(values)))


def _true(value: Any) -> bool:
    return switch(text_of(value)) is True if value is not None else False


def _extras(values: dict[str, Any]) -> list[str]:
    return [f"{name}={text_of(value)}" for name, value in values.items() if name not in _PLAIN_IMAGE]
