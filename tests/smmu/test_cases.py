"""Every case of fixtures/translation against the specification's outcome, and QEMU's record where both agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wizard.smmu.cases import run_plain as run

FIXTURES = Path(__file__).parents[2] / "fixtures" / "translation"
CASES: list[dict[str, Any]] = [case for path in sorted(FIXTURES.glob("*.json")) for case in json.loads(path.read_text())]
COMPARED = ("ok", "pa", "cmd", "consumed", "error", "steps", "type", "name", "s2", "class", "addr", "sid", "fault")
"""Of QEMU's answer: where the access went, or the record's type, stage, class and input address."""


def value(content: Any) -> Any:
    """Numbers compare by value, integer or hexadecimal string alike."""
    if isinstance(content, str):
        try:
            return int(content, 0)
        except ValueError:
            return content
    return content


def contained(expected: Any, answer: Any) -> bool:
    if isinstance(expected, dict):
        return isinstance(answer, dict) and all(key in answer and contained(content, answer[key]) for key, content in expected.items())
    if isinstance(expected, list):
        return isinstance(answer, list) and len(expected) == len(answer) and all(map(contained, expected, answer))
    return bool(value(expected) == value(answer))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_case_ends_as_the_specification_says(case: dict[str, Any]) -> None:
    answer = run(case)
    assert contained(case["expect"], answer), f"expected {case['expect']}, got {answer}"


def of_qemu(outcome: Any) -> Any:
    if isinstance(outcome, dict):
        return {key: of_qemu(content) for key, content in outcome.items() if key in COMPARED}
    return [of_qemu(content) for content in outcome] if isinstance(outcome, list) else outcome


@pytest.mark.parametrize("case", [case for case in CASES if case.get("qemu_agrees")], ids=lambda case: case["name"])
def test_record_is_what_qemu_wrote_where_it_agrees(case: dict[str, Any]) -> None:
    answer = run(case)
    assert contained(of_qemu(case["qemu"]), answer), f"QEMU wrote {case['qemu']}, got {answer}"
