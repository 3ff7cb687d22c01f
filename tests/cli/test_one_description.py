"""A function and an SMMU are described once: what `show` prints, what its JSON has as rows, and what the wizard's detail shows are the same words."""

from __future__ import annotations

import json
import re

import pytest
from msgspec.structs import replace

from tests.tools.hosts import FIXTURES, facts, host
from wizard.base.glyphs import UNICODE
from wizard.cli.inspect import function_lines, smmu_lines
from wizard.cli.main import main
from wizard.host.build import host_of
from wizard.host.describe import Row, function_rows, smmu_rows
from wizard.host.view import FunctionView, GroupView, SmmuView
from wizard.tui.describe import detail_lines
from wizard.tui.rows import Index
from wizard.tui.state import Session

NAMES = ("arm64-virt-canwbs", "arm64-virt", "gb200", "host-in-use", "x86-intel")
ONLY_IN_WORDS = {"path", "requester", "reserved_regions", "sriov", "policy", "class", "device", "peers"}
"""Rows whose JSON field has another name, another place, or is made of several."""


def squeezed(lines: object) -> str:
    """Text without its layout: wrapping and columns are the faces' own."""
    return re.sub(r"\s+", " ", "\n".join(map(str, lines)))  # type: ignore[call-overload]


def held(rows: list[Row], text: str) -> None:
    for row in rows:
        assert squeezed([f"{row.label} {row.text}"]) in text, row


@pytest.mark.parametrize("name", NAMES)
def test_the_text_and_the_wizard_say_the_rows_of_every_function(name: str) -> None:
    made = host(name)
    index = Index(made)
    for address, function in made.functions.items():
        rows = list(function_rows(made, function))
        held(rows, squeezed(function_lines(made, function)))
        held(rows, squeezed(line.text for line in detail_lines(index, Session(), address, 200, UNICODE)))


@pytest.mark.parametrize("name", NAMES)
def test_the_text_and_the_wizard_say_the_rows_of_every_smmu(name: str) -> None:
    made = host(name)
    index = Index(made)
    for smmu in made.smmus.values():
        rows = list(smmu_rows(made, smmu))
        held(rows, squeezed(smmu_lines(made, smmu)))
        held(rows, squeezed(line.text for line in detail_lines(index, Session(), smmu.name, 200, UNICODE)))


@pytest.mark.parametrize("subject", ["0000:14:00.0", "smmu3.0x000000000c000000"])
def test_json_has_the_same_rows_beside_its_fields(subject: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(FIXTURES / "arm64-virt-canwbs.json")
    assert main(["--replay", path, "show", subject, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(["--replay", path, "show", subject]) == 0
    held([Row(**row) for row in found["rows"]], squeezed([capsys.readouterr().out]))


@pytest.mark.parametrize("name", NAMES)
def test_the_key_of_a_row_is_a_field_of_the_json(name: str) -> None:
    made = host(name)
    fields = {*FunctionView.__struct_fields__, *GroupView.__struct_fields__, *ONLY_IN_WORDS}
    assert {row.key for function in made.functions.values() for row in function_rows(made, function)} <= fields
    assert {row.key for smmu in made.smmus.values() for row in smmu_rows(made, smmu)} <= {*SmmuView.__struct_fields__, "policy"}


def test_what_the_kernel_did_not_say_is_unknown_in_every_face() -> None:
    """The wizard said "none" of a function's SMMU where `show` said that it is not known."""
    address = "0000:14:00.0"
    recorded = facts("arm64-virt-canwbs")
    functions = tuple(replace(one, iommu=None) if one.address == address else one for one in recorded.functions)
    iommus = tuple(replace(one, members=tuple(member for member in one.members if member != address)) for one in recorded.iommus)
    blind = host_of(replace(recorded, functions=functions, iommus=iommus))
    [row] = [row for row in function_rows(blind, blind.functions[address]) if row.key == "smmu"]
    assert row.value == "unknown"
    held([row], squeezed(line.text for line in detail_lines(Index(blind), Session(), address, 200, UNICODE)))
    held([row], squeezed(function_lines(blind, blind.functions[address])))
