"""Random cases with a fixed seed: against the reference walker always, against QEMU's own SMMUv3 where there is one.

``python -m tests.smmu.qemu.differential --cases 50000`` and ``python -m tests.smmu.qemu.sequences --sequences 2000`` are the larger runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.smmu.qemu import sequences
from tests.smmu.qemu.differential import Report, compare
from tests.smmu.qemu.machine import Machine
from wizard.arch.command import Op
from wizard.arch.command import build as command
from wizard.smmu import Ids, Memory, Smmu, Transaction

SEED = 20_251
ACCEPTED_BY_QEMU = {
    int(op)
    for op in (
        Op.TLBI_EL3_ALL, Op.TLBI_EL3_VA, Op.TLBI_EL2_ALL, Op.TLBI_EL2_ASID, Op.TLBI_EL2_VA, Op.TLBI_EL2_VAA,
        Op.ATC_INV, Op.PRI_RESP, Op.RESUME, Op.STALL_TERM,
    )
}  # fmt: skip
"""QEMU 11.1 takes these without doing anything, although its IDR0 has no EL2, ATS, PRI or stall and it is not Secure."""


def shown(cases: list[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(case) for case in cases[:3])


def test_random_cases_end_as_the_reference_walker_says() -> None:
    report = compare(None, 3000, SEED)
    assert not report.ours, shown(report.ours)
    assert len(report.outcomes) >= 7
    assert report.outcomes["ok"] > 300


@pytest.mark.qemu
def test_random_cases_end_as_in_qemu_but_for_listed_departures(qemu: Path) -> None:
    with Machine(qemu) as machine:
        report: Report = compare(machine, 1500, SEED)
    assert not report.ours, shown(report.ours)
    assert not report.theirs, shown(report.theirs)
    assert report.agree > report.cases * 0.6


@pytest.mark.parametrize("with_qemu", [False, pytest.param(True, marks=pytest.mark.qemu)])
def test_random_two_level_stream_tables(with_qemu: bool, request: pytest.FixtureRequest) -> None:
    if not with_qemu:
        report = compare(None, 1000, SEED, two_level=True)
    else:
        with Machine(request.getfixturevalue("qemu")) as machine:
            report = compare(machine, 500, SEED, two_level=True)
    assert not report.ours, shown(report.ours)
    assert not report.theirs, shown(report.theirs)
    assert report.outcomes["C_BAD_STREAMID"] > 50


@pytest.mark.qemu
def test_random_sequences_use_stale_entries_where_qemu_does(qemu: Path) -> None:
    """Commands remove from the caches what they remove in QEMU, no less and no more."""
    with Machine(qemu) as machine:
        report = sequences.compare(machine, 150, SEED)
    assert not report.differing, shown(report.differing)
    assert report.stale > 200


@pytest.mark.qemu
def test_identification_registers_are_qemus(qemu: Path) -> None:
    with Machine(qemu) as machine:
        words = [int(word, 0) for word in machine.ask([f"readl {0x0905_0000 + at:#x}" for at in (0, 4, 0xC, 0x14, 0x1C)])]
    ids = Ids()
    assert words == [ids.idr0, ids.idr1, ids.idr3, ids.idr5, ids.aidr]


@pytest.mark.qemu
def test_every_opcode_is_accepted_or_refused_as_in_qemu(qemu: Path) -> None:
    """CERROR_ILL for reserved opcodes and those that the SMMU does not have (no ATS, no PRI, no stall, no EL2)."""
    smmu = Smmu(Ids(), Memory())
    smmu.write("CR0", 0xD)
    with Machine(qemu) as machine:
        for opcode in range(0x100):
            ours = smmu.command(opcode).name
            theirs = machine.one_command(opcode, 0)
            if opcode in ACCEPTED_BY_QEMU:
                assert (ours, theirs) == ("CERROR_ILL", "CERROR_NONE")
            else:
                assert ours == theirs, f"opcode {opcode:#x}"


def test_commands_of_a_batch_stop_at_the_first_error() -> None:
    smmu = Smmu(Ids(), Memory())
    smmu.write("CR0", 0xD)
    sync, bad = command(Op.SYNC).words, (0xFF, 0)
    consumed = smmu.submit([(sync[0], sync[1]), bad, (sync[0], sync[1])])
    assert (consumed.count, consumed.error.name) == (1, "CERROR_ILL")
    assert smmu.active("CMDQ_ERR")
    assert not smmu.translate(Transaction(8, 0)).ok
