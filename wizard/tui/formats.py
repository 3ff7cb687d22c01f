"""The texts that a plan is written as, their file names, their highlighting and their differences. No Textual here."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from wizard.base.errors import UsageError
from wizard.base.text import visible
from wizard.host.model import Host
from wizard.plan.model import Plan, VmPlan
from wizard.tui.lines import Line, Span, line


@dataclass(frozen=True)
class Format:
    """``name`` is what ``export --format`` calls it; ``suffix`` follows the VM's name in a file's."""

    name: str
    label: str
    suffix: str
    lexer: str
    script: bool = False


FORMATS = (
    Format("toml", "TOML", ".toml", "toml"),
    Format("qemu", "QEMU", ".sh", "bash", script=True),
    Format("qemu-json", "QEMU JSON", ".qemu.json", "json"),
    Format("libvirt", "libvirt", ".xml", "xml"),
    Format("virt-install", "virt-install", ".virt-install.sh", "bash", script=True),
    Format("openvmm", "OpenVMM", ".openvmm.sh", "bash", script=True),
    Format("prepare", "prepare", ".prepare.sh", "bash", script=True),
    Format("qmp", "QMP", ".qmp.json", "json"),
)
WRITTEN = ("toml", "qemu", "libvirt", "prepare")  # what Export writes unless asked otherwise


def format_of(name: str) -> Format:
    """A format by its name; ``KeyError``."""
    return next(one for one in FORMATS if one.name == name)


def text_of(name: str, host: Host, plan: Plan, vm: VmPlan, *, old: str | None = None) -> str:
    """One VM in one format. ``old`` is the profile's text on disk, whose comments are kept. ``WizardError`` where a format can't carry it."""
    from wizard import export, profile
    from wizard.plan.planner import make_plan
    from wizard.plan.request import Request
    from wizard.plan.target import for_vmm, vmm_of_format
    from wizard.plan.written import written

    vmm = vmm_of_format(name)
    if vmm is not None and vmm is not vm.vmm:
        vm = make_plan(host, Request(vms=(for_vmm(vm.request, vmm),))).vms[0]
        if vm.errors:
            raise UsageError(vm.errors[0].what, vm.errors[0].fix)
    if name == "toml":
        return profile.write_profile(vm) if old is None else profile.edit_profile(old, written(vm))
    if name == "qemu":
        return export.qemu_script(vm)
    if name == "qemu-json":
        return export.qemu_json(vm)
    if name == "libvirt":
        return export.libvirt_xml(vm)
    if name == "virt-install":
        return export.virt_install_script(vm)
    if name == "openvmm":
        return export.openvmm_script(vm)
    if name == "qmp":
        return export.qmp_hotplug(vm)
    return export.prepare_script(msgspec.structs.replace(plan, vms=(vm,)), host)


def command_of(name: str, vm: str) -> str:
    """The words that make the same without a terminal, from the written profile."""
    import shlex

    profile = shlex.quote(f"{vm}.toml")
    return f"check {profile}" if name == "toml" else f"export {profile} --format {name}"


def highlighted(text: str, lexer: str) -> list[Line]:
    """Text with the colours of its language; exactly its lines."""
    from pygments import lex
    from pygments.lexers import get_lexer_by_name
    from pygments.token import Comment, Keyword, Name, Number, Punctuation, String

    roles = (
        (Comment, "dim"),
        (String, "good"),
        (Number, "c2"),
        (Keyword, "c1"),
        (Name.Tag, "c0"),
        (Name.Attribute, "c4"),
        (Name.Builtin, "c4"),
        (Punctuation, "dim"),
    )
    rows: list[list[Span]] = [[]]
    for kind, piece in lex(text, get_lexer_by_name(lexer, stripnl=False, ensurenl=False)):
        role = next((role for base, role in roles if kind in base), "")  # type: ignore[comparison-overlap]  # a token contains its subtypes
        for number, part in enumerate(piece.split("\n")):
            if number:
                rows.append([])
            if part:
                rows[-1].append((visible(part.expandtabs(4)), role))
    if rows and not rows[-1]:
        rows.pop()
    return [Line(tuple(row)) for row in rows]


def diff_lines(old: str, new: str, name: str) -> Iterator[Line]:
    """A unified difference; nothing when there is none."""
    for one in difflib.unified_diff(old.splitlines(), new.splitlines(), f"{name} on disk", f"{name} as planned", lineterm="", n=2):
        role = (
            "head"
            if one.startswith(("---", "+++"))
            else "info"
            if one.startswith("@@")
            else "add"
            if one.startswith("+")
            else "remove"
            if one.startswith("-")
            else ""
        )
        yield line((one, role))
