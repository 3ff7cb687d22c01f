"""Every finding of the rehearsal has been seen in a real QEMU, and stands in the golden file (``said``); what QEMU wrote is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rehearsal.said import GOLDEN, said
from tests.tools import golden
from tests.tools.hosts import E1000E, NVME, VF0, VF1, planned
from tests.tools.qemu import require_firmware
from wizard.base.finding import Definition
from wizard.explain.short import with_words_explained
from wizard.plan.request import FunctionRequest, VsmmuRequest
from wizard.rehearsal import report
from wizard.rehearsal.qemu import rehearse
from wizard.rehearsal.text import lines


def test_every_code_has_been_seen() -> None:
    golden.only(GOLDEN, {value.code for value in vars(report).values() if isinstance(value, Definition)})


@pytest.mark.qemu
def test_firmware_finds_a_bus_range_too_small(qemu: Path) -> None:
    """What the rule refuses does fail (sources: qemu-P5): without room, only the first port is numbered."""
    vsmmus = (VsmmuRequest(id="a", smmu="smmu3.0x000000000c000000", bus_nr=8), VsmmuRequest(id="b", smmu="smmu3.0x000000000c020000", bus_nr=10))
    made = planned(NVME, VF0, VF1, E1000E, vsmmus=vsmmus)
    assert {finding.code for finding in made.errors} == {"bus-range"}
    findings = rehearse(made, str(qemu), firmware=require_firmware()).findings
    said("rehearsal-dead-port", findings)
    said("rehearsal-differs", findings)


@pytest.mark.qemu
def test_what_qemu_refuses_is_said_in_its_words(qemu: Path) -> None:
    twice = planned(FunctionRequest(host=NVME, chassis=7), FunctionRequest(host=E1000E, chassis=7))
    assert "chassis-twice" in {finding.code for finding in twice.errors}
    seen = with_words_explained(rehearse(twice, str(qemu)))
    [refused] = seen.findings
    said("rehearsal-refused", [refused])
    # and explained beneath, by the finding that the plan has for it
    assert seen.explained is not None
    assert [reason.finding for reason in seen.explained.reasons] == ["chassis-twice"]
    told = lines(seen, [refused.what])
    below = told.index(refused.what)
    assert told[below + 1] == "  QEMU's words: Can't add chassis slot, error -16"
    assert told[below + 4].startswith("      fix: Give each root port its own chassis")


def test_a_rehearsal_says_no_more_of_words_that_nobody_knows() -> None:
    said = report.Report("web", "qemu", False, (), (), (), words="qemu-system-aarch64: -device foo: the moon is full")
    assert with_words_explained(said) == said
