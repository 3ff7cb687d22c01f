"""Texts that a person has read: golden files, held byte for byte, and reviewed as a difference.

After a change that is meant, write them anew and read what changed:

    SMMU_WIZARD_GOLDEN=renew .venv/bin/python -m pytest tests/plan/test_rules.py
    git diff tests/plan/golden

What a golden file holds is not proof that it is right: that is what QEMU, libvirt, the kernel and the specification are asked for in the
tests beside it. It says that nothing else has changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from wizard.base.finding import Finding, grouped
from wizard.base.text import plural

_MARK = "=== "


def renewing() -> bool:
    """Whether the files are to be written anew."""
    return os.environ.get("SMMU_WIZARD_GOLDEN") == "renew"


def same(path: Path, text: str) -> None:
    """The whole file is this text."""
    if renewing():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path.name} is not there: see tests/tools/golden.py"
    assert text == path.read_text(encoding="utf-8")


def same_section(path: Path, name: str, text: str) -> None:
    """One part of a file of many, each below a line ``=== NAME``, in the order of their names."""
    if renewing():
        parts = {**_sections(path), name: text}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(f"{_MARK}{part}\n{parts[part]}" for part in sorted(parts)), encoding="utf-8")
    assert text == _sections(path).get(name), f"{name} of {path.name}: see tests/tools/golden.py"


def section(path: Path, name: str) -> str:
    """One part of such a file; empty where it has none."""
    return _sections(path).get(name, "")


def names(path: Path) -> set[str]:
    """The parts of a file."""
    return set(_sections(path))


def only(path: Path, wanted: Iterable[str]) -> None:
    """The file has these parts and no others: what was removed from the program is removed here."""
    kept = set(wanted)
    if renewing() and path.exists():
        parts = {name: text for name, text in _sections(path).items() if name in kept}
        path.write_text("\n".join(f"{_MARK}{part}\n{parts[part]}" for part in sorted(parts)), encoding="utf-8")
    assert names(path) == kept


def _sections(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    if not path.exists():
        return found
    for part in ("\n" + path.read_text(encoding="utf-8")).split("\n" + _MARK)[1:]:
        name, _, text = part.partition("\n")
        found[name] = text
    return {name: text if text.endswith("\n") else text + "\n" for name, text in found.items()}


def findings_text(findings: Iterable[Finding]) -> str:
    """Findings as a person reads them: each cause with its severity and subject, whom else it was found on, and its three sentences."""
    lines: list[str] = []
    for item in grouped(findings):
        one = item.finding
        others = f" and {plural(len(item.subjects) - 1, 'other')}" if len(item.subjects) > 1 else ""
        lines += [f"{one.severity} {one.subject}{others}", one.what, f"why: {one.why}", f"fix: {one.fix}"]
    return "\n".join(lines) + "\n"


def fires(path: Path, code: str, cases: Mapping[str, Callable[[], Iterable[Finding]]]) -> None:
    """What is told of a code where its case is made: severity, subject and every sentence, as they were read."""
    assert code in cases, f"{code} has no test"
    found = [finding for finding in cases[code]() if finding.code == code]
    assert found, f"{code} is not found"
    same_section(path, code, findings_text(found))
