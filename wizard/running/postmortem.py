"""After a failure: one file, redacted, with what somebody who mends it needs: the host, the VMs, their logs and what the messages in them mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any

import msgspec

from wizard import __version__
from wizard.base.finding import Finding
from wizard.existing.processes import Process as Started
from wizard.explain.report import Report, explain
from wizard.facts.identifying import Cleaner
from wizard.facts.model import Facts
from wizard.facts.pseudonym import Pseudonyms, Secrets, telling
from wizard.facts.redact import for_writing
from wizard.running.logs import Kernel, Written
from wizard.running.model import VmView

_KERNEL_LINES = 20_000  # the last ones
_LOG_CHARACTERS = 1 << 20  # of each log: its end


class Postmortem(msgspec.Struct, frozen=True, kw_only=True):
    """The file. ``redacted``: what was replaced."""

    format: str = "smmu-wizard-postmortem"
    version: int = 1
    tool: str = __version__
    redacted: tuple[str, ...] = ()
    vms: tuple[VmView, ...] = ()
    findings: tuple[Finding, ...] = ()
    command_lines: dict[str, tuple[str, ...]] = {}  # by process number
    profiles: dict[str, str] = {}
    kernel_log: tuple[str, ...] = ()
    kernel_log_unread: str | None = None
    qemu_logs: dict[str, str] = {}  # by where they are
    explained: Report | None = None
    snapshot: Facts


def collect(
    facts: Facts, secrets: Secrets, *, vms: Sequence[VmView], findings: Sequence[Finding], processes: Iterable[Started], names: Iterable[str],
    profiles: Mapping[str, str], kernel: Kernel, logs: Iterable[Written],
) -> Postmortem:  # fmt: skip
    """All of it, without what tells whose machine it is: nor the names of the VMs, which are somebody's choice."""
    snapshot, report = for_writing(facts, secrets)
    given = Pseudonyms(secrets.key)
    hosts = (*secrets.hosts, *telling({name for name in names if len(name) > 2}))
    clean = Cleaner(msgspec.structs.replace(secrets, hosts=tuple(dict.fromkeys(hosts))), given)
    written = [log for log in logs if log.text]
    lines = kernel.lines[-_KERNEL_LINES:]
    said = "\n".join((*lines, *(log.text[-_LOG_CHARACTERS:] for log in written)))
    raw = {
        "vms": vms,
        "findings": findings,
        "command_lines": {str(one.guest.running): one.words for one in processes},
        "profiles": profiles,
        "qemu_logs": {log.where: log.text[-_LOG_CHARACTERS:] for log in written},
        "explained": explain(BytesIO(said.encode(errors="replace"))),
    }
    safe = {name: _cleaned(msgspec.to_builtins(value), clean) for name, value in raw.items()}
    made = msgspec.convert(
        {**safe, "kernel_log": [clean.line(line) for line in lines], "kernel_log_unread": kernel.unread, "snapshot": msgspec.to_builtins(snapshot)},
        Postmortem,
    )
    return msgspec.structs.replace(made, redacted=tuple(dict.fromkeys((*report, *given.report()))))


def _cleaned(value: Any, clean: Cleaner) -> Any:
    if isinstance(value, str):
        return "\n".join(clean.text(line) for line in value.split("\n"))
    if isinstance(value, list | tuple):
        return [_cleaned(one, clean) for one in value]
    if isinstance(value, dict):
        return {clean.text(key) if "/" in key else key: _cleaned(one, clean) for key, one in value.items()}
    return value
