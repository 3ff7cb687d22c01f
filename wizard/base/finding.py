"""Findings, and the registry of every code there is.

A finding is one thing found: code, severity, subject, what, why, fix. A code is declared once, beside the rule that
finds it, with its sentences as templates; ``docs/findings.md`` is generated from the registry. Codes are stable.

    NO_SMMU = define("no-smmu", Severity.ERROR, Kind.VERDICT, what="{subject} has no SMMU above it.", why=…, fix=…)
    yield NO_SMMU.at("0000:00:01.0")
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from enum import StrEnum
from itertools import pairwise

import msgspec

from wizard.base.action import Action


class Severity(StrEnum):
    """How bad: an error stops what was asked for."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Kind(StrEnum):
    """What it takes to change it (domain words: a verdict is silicon, firmware, kernel or group)."""

    VERDICT = "verdict"  # decides accel; neither plan nor preparation script can change it
    TODO = "todo"  # the preparation script or the administrator can change it
    PLAN = "plan"  # needs a request
    DIFF = "diff"  # needs two snapshots
    RUNNING = "running"  # needs a VM that runs


class Area(StrEnum):
    """Where the administrator has to go to mend it; ``doctor`` groups by it."""

    FIRMWARE = "firmware"
    HARDWARE = "hardware"
    CMDLINE = "kernel command line"
    KCONFIG = "kernel configuration"
    DRIVERS = "drivers"
    PACKAGES = "packages"
    HOST = "host"
    REQUEST = "request"


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing found. ``subject`` is an address, an SMMU, a VM or a file; the rest are whole sentences. ``action`` is the fix as data."""

    code: str
    severity: Severity
    subject: str
    what: str
    why: str
    fix: str
    action: Action | None = None

    def of(self, subject: object) -> Finding:
        """The same of another subject, where no sentence names it."""
        return Finding(self.code, self.severity, str(subject), self.what, self.why, self.fix, self.action)


class OnTree(msgspec.Struct, frozen=True):
    """What is said instead where a host's firmware gives a device tree: no IORT is there to look at, and no root is needed to read it."""

    why: str | None = None
    fix: str | None = None


SAME = OnTree()


class Definition(msgspec.Struct, frozen=True):
    """A code and its sentences, with ``{names}`` to fill in."""

    code: str
    severity: Severity
    kind: Kind
    area: Area
    what: str
    why: str
    fix: str
    on_tree: OnTree = SAME
    action: Action | None = None

    def at(self, subject: object, *, severity: Severity | None = None, tree: bool = False, action: Action | None = None, **values: object) -> Finding:
        """The finding about ``subject``, on a host with a device tree if ``tree``; ``KeyError`` when a value that the sentences need is missing.

        ``action`` is another one than declared.
        """
        names: dict[str, object] = {"subject": subject, **values}
        why, fix = self.why, self.fix
        if tree:
            why, fix = self.on_tree.why or why, self.on_tree.fix or fix
        return Finding(
            self.code,
            severity or self.severity,
            str(subject),
            self.what.format(**names),
            why.format(**names),
            fix.format(**names),
            action or (self.action.filled(names) if self.action is not None else None),
        )


REGISTRY: dict[str, Definition] = {}


def define(
    code: str,
    severity: Severity,
    kind: Kind,
    area: Area = Area.REQUEST,
    *,
    what: str,
    why: str,
    fix: str,
    on_tree: OnTree = SAME,
    action: Action | None = None,
) -> Definition:
    """Declare a code; ``ValueError`` when it is taken or a template is broken."""
    if code in REGISTRY:
        raise ValueError(f"finding {code} is declared twice")
    for template in (what, why, fix, on_tree.why or "", on_tree.fix or ""):
        list(string.Formatter().parse(template))
    REGISTRY[code] = Definition(code, severity, kind, area, what, why, fix, on_tree, action)
    return REGISTRY[code]


class Item(msgspec.Struct, frozen=True):
    """One cause: the first finding of it, and everything that it was found on."""

    finding: Finding
    subjects: tuple[str, ...]


_ADDRESS = re.compile(r"(?<![\w.])[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7](?!\w|\.\d)")
_RANK = {severity: rank for rank, severity in enumerate(Severity)}


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first; else as they come, which is the order in which the rules are declared."""
    return tuple(sorted(findings, key=lambda finding: _RANK[finding.severity]))


def grouped(findings: Iterable[Finding]) -> tuple[Item, ...]:
    """One row for each cause, with what it was found on: errors first, else in the order of the first of each.

    The same sentences but for the functions that they name are one cause: forty functions with the same fault, the members of one group.
    """
    joined: dict[tuple[str, ...], dict[str, Finding]] = {}
    for finding in ordered(findings):
        cause = _cause(finding)
        # Two faults of one function are two, though they differ in nothing but whom else they name.
        if joined.setdefault(cause, {}).setdefault(finding.subject, finding) != finding:
            joined.setdefault((*cause, finding.what), {}).setdefault(finding.subject, finding)
    return tuple(Item(next(iter(same.values())), tuple(same)) for same in joined.values())


def _cause(finding: Finding) -> tuple[str, ...]:
    texts = (_without(text, finding.subject) if finding.subject else text for text in (finding.what, finding.why, finding.fix))
    return finding.code, finding.severity, *(_ADDRESS.sub("\0", text) if ":" in text else text for text in texts)


def _without(text: str, subject: str) -> str:
    """The text with another word for the subject; a VM that is called "a" is not every a."""
    if ":" in subject:
        return text.replace(subject, "\0")
    pieces = text.split(subject)
    joined = pieces[0]
    for before, piece in pairwise(pieces):
        within = (before[-1:].isalnum() and subject[:1].isalnum()) or (piece[:1].isalnum() and subject[-1:].isalnum())
        joined += (subject if within else "\0") + piece
    return joined


def worst(findings: list[Finding] | tuple[Finding, ...]) -> Severity | None:
    """The highest severity among findings, None when there are none."""
    for severity in Severity:
        if any(finding.severity is severity for finding in findings):
            return severity
    return None
