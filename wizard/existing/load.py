"""One way to open a VM: a profile, a libvirt domain, a QEMU command line, a KubeVirt document. The kind is told by the content.

Every command that takes a profile opens it here, and so does the wizard.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from wizard.base import toml
from wizard.base.errors import InputError
from wizard.base.finding import Finding, Severity
from wizard.base.text import visible
from wizard.existing.guest import Guest
from wizard.plan.request import VmRequest
from wizard.profile.read import read_profile

LIMIT = 100 << 20  # bytes
STDIN = "-"
_OURS = re.compile(r"^\s*(version\s*=\s*[0-9]|#:schema|\[\[(function|vsmmu|disk|network|hotplug|numa|other)\]\])", re.MULTILINE)
_XML = re.compile(rb"\s*(<\?xml|<!--|<!DOCTYPE|<[A-Za-z])")
_KUBEVIRT = re.compile(rb"""^[\s-]*["']?apiVersion["']?\s*:\s*["']?kubevirt\.io/""", re.MULTILINE)
_UTF8 = b"\xef\xbb\xbf"


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A VM that was opened. ``guest`` is the model that it was read into; None for a profile."""

    request: VmRequest
    findings: tuple[Finding, ...]
    source: str  # the path, as it was given
    kind: str  # profile, libvirt, qemu, kubevirt
    guest: Guest | None = None

    @property
    def whole(self) -> bool:
        """Whether there is a request to plan: a profile with errors has defaults in the place of what is wrong."""
        return self.kind != "profile" or not any(finding.severity is Severity.ERROR for finding in self.findings)


def open_vms(source: str) -> list[Opened]:
    """The VMs of a file (or ``-``: standard input). Raises ``InputError`` for what can't be read at all."""
    if source == STDIN:
        return read_vms(read_stdin(), STDIN)
    path = Path(source)
    if path.suffix == ".toml":
        request, findings = read_profile(path)
        return [Opened(request=request, findings=tuple(findings), source=source, kind="profile")]
    return read_vms(load(path), source, opened=beside(path))


def open_text(name: str, text: str) -> list[Opened]:
    """The VMs of a text, as if it stood in the file of that name."""
    if Path(name).suffix == ".toml":
        request, findings = read_profile(text, name=visible(name))
        return [Opened(request=request, findings=tuple(findings), source=name, kind="profile")]
    return read_vms(text.encode(), name, opened=beside(Path(name)) if name != STDIN else None)


def read_stdin() -> bytes:
    """Standard input, as far as anything can be that long."""
    return sys.stdin.buffer.read(LIMIT + 1)


def read_vms(data: bytes, source: str, *, opened: Callable[[str], bytes | None] | None = None) -> list[Opened]:
    """The VMs of a text; ``opened`` gives files that a command line names (-readconfig)."""
    shown = visible(source if source != STDIN else "standard input")
    if len(data) > LIMIT:
        raise InputError(f"{shown} is larger than {LIMIT >> 20} MiB.", "No VM's description is that large; name another file.")
    kind = kind_of(data)
    if kind == "profile":
        request, findings = read_profile(_text(data, shown), name=shown)
        return [Opened(request=request, findings=tuple(findings), source=source, kind=kind)]
    return [opened_guest(guest, source, kind) for guest in read_guests(data, shown, opened=opened)]


def read_guests(data: bytes, shown: str, *, opened: Callable[[str], bytes | None] | None = None) -> list[Guest]:
    """Existing VMs of a text, as they are written."""
    kind = kind_of(data)
    if kind == "kubevirt":
        from wizard.existing.kubevirt import read_kubevirt

        return read_kubevirt(_text(data.removeprefix(_UTF8), shown), shown)
    if kind == "libvirt":
        from wizard.existing.domain import read_domains

        return read_domains(_text(data.removeprefix(_UTF8), shown), shown)
    from wizard.existing.argv import read_argv
    from wizard.existing.words import read_commands

    commands = read_commands(data, shown, opened=opened)
    guests = [read_argv(command, shown) for command in commands.commands]
    # What is left of the source as a whole is said with its first VM.
    return [msgspec.structs.replace(guests[0], left=(*commands.left, *guests[0].left)), *guests[1:]]


def opened_guest(guest: Guest, source: str, kind: str) -> Opened:
    """A guest as a request, with what its program fills in."""
    from wizard.existing.placement import complete
    from wizard.existing.request import request_of

    # What a KubeVirt document leaves out is the launcher's, not libvirt's.
    request, findings = request_of(guest if kind == "kubevirt" else complete(guest))
    return Opened(request=request, findings=tuple(findings), source=source, kind=kind, guest=guest)


def kind_of(data: bytes) -> str:
    """profile, libvirt, qemu or kubevirt; what is none of them is taken for a profile, whose reader says what is wrong."""
    if _XML.match(data.removeprefix(_UTF8)):
        return "libvirt"
    if _KUBEVIRT.search(data[: 1 << 20]):
        return "kubevirt"
    if b"\0" not in data[: 1 << 16]:
        text = data.decode(errors="replace").removeprefix("\ufeff")
        if _OURS.search(text) or _is_toml(text):
            return "profile"
    from wizard.existing.words import kind_of as command_kind

    return "qemu" if command_kind(data) is not None else "profile"


def _is_toml(text: str) -> bool:
    """Whether it is TOML with a key in it; a comment alone is not."""
    if len(text) > 1 << 20:
        return False
    try:
        found: dict[str, Any] = toml.loads(text)
    except ValueError:
        return False
    return bool(found)


def _text(data: bytes, shown: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if b"<?xml" in data[:64] and b"encoding" in data[:200]:
            fix = "Give it in UTF-8, as `virsh dumpxml` writes it."
        else:
            fix = "A profile is TOML and a domain is XML, and both are UTF-8; name another file."
        raise InputError(f"{shown} is not UTF-8 (byte {error.start}).", fix) from error


def load(path: Path) -> bytes:
    """A file as it is. Raises ``InputError``."""
    try:
        with path.open("rb") as file:
            return file.read(LIMIT + 1)
    except FileNotFoundError as error:
        fix = "Check the path; a profile is made with `smmu-wizard plan … -o DIR`, a domain is written by `virsh dumpxml NAME`."
        raise InputError(f"There is no file {visible(str(path))}.", fix) from error
    except OSError as error:
        raise InputError(f"{visible(str(path))} can't be read: {error.strerror or error}.", "Check the path and its permissions.") from error


def beside(path: Path) -> Callable[[str], bytes | None]:
    """Files that a command line names, only from the directory of the file that it stands in: an input leads nowhere else."""

    def opened(name: str) -> bytes | None:
        there = path.parent / Path(name).name
        try:
            with there.open("rb") as file:
                return file.read(1 << 20)
        except OSError:
            return None

    return opened
