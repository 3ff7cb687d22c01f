"""What is exercised is noted, and noting changes no answer; docs/smmu-behaviours.md names a case of each behaviour that really exercises it."""

from __future__ import annotations

import functools
import io
import lzma
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.smmu.world import RICH, SID, world
from tests.tools.processes import LIMIT
from wizard.arch.command import CommandError, Op, build
from wizard.cli.translate import run as run_translate
from wizard.smmu import Ids, Memory, Smmu, Transaction, cases
from wizard.smmu.behaviours import BEHAVIOURS
from wizard.smmu.caseformat import Case
from wizard.smmu.coverage import Coverage, Observed, ObservedMachine
from wizard.smmu.tables import Allocator, PageTable, StreamTable, stage2_entry

ROOT = Path(__file__).parents[2]
FILES = [
    "fixtures/translation/cases.json", *(f"tests/smmu/data/{name}" for name in ("faults.json", "openvmm.json.xz", "acs.json.xz"))
]  # fmt: skip


def standing() -> Iterator[Case]:
    for name in FILES:
        data = (ROOT / name).read_bytes()
        yield from (case for case in cases.decode_all(lzma.decompress(data) if name.endswith(".xz") else data) if isinstance(case, Case))


def test_noting_changes_no_answer() -> None:
    coverage = Coverage()
    for case in standing():
        plain = cases.plain(cases.run(case))
        assert cases.plain(cases.run(case, make=functools.partial(Observed, coverage=coverage))) == plain, case.name
    assert len(coverage.exercised) > 100


def test_translate_says_at_the_end_what_its_cases_exercised(tmp_path: Path) -> None:
    path, out = tmp_path / "case.json", io.StringIO()
    path.write_text('[{"sid": 1, "iova": "0x40000000", "cr0": 0}, 1]')
    assert run_translate(str(path), None, out, coverage=True) == 3
    first, second, *lines = out.getvalue().splitlines()
    assert '"how":"disable"' in first
    assert '"error"' in second
    assert lines[0] == f"# 1 of {len(BEHAVIOURS)} behaviours of the specification exercised"
    assert all(line.startswith("# ") for line in lines)


# What no other test of this room does.


@pytest.mark.parametrize("op", [
    Op.PREFETCH_CONFIG, Op.PREFETCH_ADDR, Op.CFGI_CD_ALL, Op.TLBI_EL2_ALL, Op.TLBI_EL2_ASID, Op.TLBI_EL2_VA, Op.TLBI_EL2_VAA,
])  # fmt: skip
def test_commands_that_an_smmu_with_el2_takes(op: Op) -> None:
    """4.1.1: each is legal where SMMU_IDR0.HYP is 1; a prefetch is a hint (4.2)."""
    assert world("1").smmu.command(*build(op).words) is CommandError.CERROR_NONE


def test_an_el2_e2h_stream_translates() -> None:
    """3.3.3: STRW 0b10 with CR2.E2H is EL2-E2H, which has ASIDs."""
    w = world("1", ste={"STRW": 2})
    w.set_cr2(3)
    assert w.dma(privileged=True).ok
    w.smmu.command(*build(Op.TLBI_EL2_ASID, ASID=1).words)
    assert w.smmu.tlb is not None
    assert [space for space, _ in w.smmu.tlb if space[0] == "E2H" and space[2] == 1] == []


def test_stage_2_from_level_3() -> None:
    """DDI 0487: small tables (IDR3.STT) let stage 2 of 4 KiB begin at level 3, S2SL0 0b11."""
    memory, space = Memory(), Allocator(0x4010_0000, 0x5000_0000)
    table = PageTable(memory, space, stage=2, input_bits=22, start=3)
    table.map(0x3000, 0x9000_0000, 0x1000)
    streams = StreamTable(memory, space, log2size=4)
    streams.set(1, stage2_entry(table, vmid=1))
    smmu = Smmu(RICH, memory)
    for name, value in (("STRTAB_BASE", streams.base), ("STRTAB_BASE_CFG", streams.config), ("CR0", 0xD)):
        smmu.write(name, value)
    assert smmu.translate(Transaction(1, 0x3010)).pa == 0x9000_0010


def test_every_behaviour_has_a_case_that_exercises_it() -> None:
    """The page is what playing the cases and tests says: scripts/smmu-behaviours writes it."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/smmu-behaviours", "--check"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr


# -- the table and its forms ------------------------------------------------------------------------------------------


def test_keys_are_stable_words() -> None:
    """Keys are what other people's tests compare; they begin with their group."""
    assert len(BEHAVIOURS) > 170
    for key, one in BEHAVIOURS.items():
        assert key == one.key
        assert "." in key
        assert one.section
        assert one.rule
        assert one.held
    with pytest.raises(KeyError):
        Coverage().note("nothing.such")


def test_a_machine_notes_in_one_place() -> None:
    coverage = Coverage()
    machine = ObservedMachine(coverage=coverage)
    machine.add("a", Ids.everything())
    machine.add("b", Ids.everything(), gbpa=1 << 20)
    machine.dma("a", Transaction(SID, 1 << 50))
    machine.dma("b", Transaction(SID, 0))
    machine.reset()
    machine.dma("a", Transaction(SID, 0x4000_0000))
    assert [one.key for one in coverage.exercised] == ["gbpa.pass", "gbpa.abort", "gbpa.beyond"]
    lines = coverage.lines()
    assert lines[0] == f"3 of {len(BEHAVIOURS)} behaviours of the specification exercised"
    assert "gbpa: 3 of 4" in lines
    assert "  not gbpa.override: SMMUEN is 0: GBPA overrides type or shareability (6.3.14, 13.2)" in lines
    assert len(coverage.missing) == len(BEHAVIOURS) - 3
