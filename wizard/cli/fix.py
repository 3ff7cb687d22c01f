"""``check --fix``: the mended VM, as a difference first, then written where that was asked for."""

from __future__ import annotations

import argparse
import difflib
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from wizard.base.errors import OutputError, UsageError
from wizard.base.exits import Exit
from wizard.base.files import PLAIN, write_all
from wizard.base.finding import Finding, Severity, grouped
from wizard.base.text import plural, visible
from wizard.cli.inspect import item_lines
from wizard.cli.output import print_json, print_lines, say
from wizard.cli.planning import permitted, read_vms, request_of_vms
from wizard.host.model import Host
from wizard.host.vmm import Vmm
from wizard.mend import Change, Mended, mend
from wizard.plan.request import VmRequest
from wizard.profile import edit_profile
from wizard.profile.read import load


class Left(msgspec.Struct, frozen=True):
    """An error that stays, and why."""

    finding: Finding
    because: str


class FixView(msgspec.Struct, frozen=True):
    """The output of ``check --fix --json``. ``diffs`` and ``texts`` go by the file's name; they hold only what changes."""

    schema: int
    ok: bool  # whether no error is left
    mended: tuple[Change, ...]
    left: tuple[Left, ...]
    diffs: dict[str, str]
    texts: dict[str, str]


def run_fix(arguments: argparse.Namespace, host: Host) -> int:
    """Status 0 when no error is left, else 1."""
    paths: list[str] = arguments.profiles
    if arguments.running is not None or not paths:
        raise UsageError("--fix mends files.", "Name the file of the VM.")
    if arguments.output and len(paths) > 1:
        raise UsageError(f"-o {visible(arguments.output)} is one file, and {len(paths)} profiles are to be mended.", "Use --in-place, or name one.")
    vms = read_vms(paths)
    for vm in vms:
        if vm.kind != "profile":
            raise UsageError(f"{visible(vm.source)} is no profile, and --fix mends profiles.", "`smmu-wizard import` makes one of it.")
    before = {path: load(Path(path)) for path in paths}
    request, findings = request_of_vms(vms), tuple(finding for vm in vms for finding in vm.findings)
    if any(finding.severity is Severity.ERROR for finding in findings):
        print_lines(item_lines(grouped(findings)))
        say("Nothing was mended: what can't be read can't be mended by rule.")
        return Exit.FINDINGS
    asked = permitted(arguments, host, request, Vmm(arguments.vmm) if arguments.vmm else None)
    mended = mend(host, asked)
    texts = {}
    for path, old, given, now in zip(paths, request.vms, asked.vms, mended.request.vms, strict=True):
        text = edit_profile(before[path], _without_permissions(now, given, old)) if now != given else before[path]
        if text != before[path]:
            texts[path] = text
    diffs = {path: diff(path, before[path], text) for path, text in texts.items()}
    left = tuple(Left(finding, because) for finding, because in mended.left)
    if arguments.json:
        print_json(FixView(1, not left, mended.changes, left, diffs, texts))
    else:
        _tell(mended, left)
        print_lines(diffs.values())
    _write(arguments, before, texts)
    return Exit.OK if not left else Exit.FINDINGS


def _without_permissions(now: VmRequest, given: VmRequest, old: VmRequest) -> VmRequest:
    """What was allowed or chosen on this command line alone is not written."""
    kept = {name: getattr(old, name) for name in ("assume_accel", "allow_in_use", "target") if getattr(now, name) == getattr(given, name)}
    return replace(now, **kept)


def diff(name: str, old: str, new: str) -> str:
    """A unified difference, as ``patch`` takes it."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), name, f"{name} (mended)", lineterm="")
    return "\n".join(lines)


def _tell(mended: Mended, left: tuple[Left, ...]) -> None:
    for change in mended.changes:
        say(f"  mended [{change.finding.code}] {change.finding.what}")
        say(f"    {visible(change.does)}")
    for one in left:
        for line in item_lines(grouped((one.finding,))):
            say(line)
        say(f"    not mended: {one.because}.")
    rest = f"{plural(len(left), 'error')} left" if left else "no error is left"
    say(f"{plural(len(mended.changes), 'error')} mended, {rest}." if mended.changes or left else "Nothing to mend: fine on this host.")


def _write(arguments: argparse.Namespace, before: Mapping[str, str], texts: Mapping[str, str]) -> None:
    if arguments.output:
        path = Path(arguments.output)
        write_all({path: next(iter(texts.values()), next(iter(before.values())))}, force=arguments.force)
        say(f"Wrote {visible(str(path))}.")
    elif arguments.in_place and texts:
        for name in texts:
            _unchanged(Path(name), before[name])
        modes = {Path(name): stat.S_IMODE(Path(name).stat().st_mode) or PLAIN for name in texts}
        write_all({Path(name): text for name, text in texts.items()}, force=True, modes=modes)
        for name in texts:
            say(f"Wrote {visible(name)}.")
    elif texts:
        say("Nothing was written: --in-place writes it, or -o FILE.")


def _unchanged(path: Path, text: str) -> None:
    """Never through a link, and never over somebody's edits."""
    if path.is_symlink():
        raise OutputError(f"{visible(str(path))} is a link, and mending in place follows none.", "Name the file that it leads to, or use -o FILE.")
    if load(path) != text:
        raise OutputError(f"{visible(str(path))} has changed since it was read.", "Run it again.")
