"""Updates while traffic runs, against the 27 transitions of Linux's own KUnit test (drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3-test.c, 7.2)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.smmu.test_peers import CASES, PLAN
from wizard.cli.main import main
from wizard.smmu.caseformat import Case
from wizard.smmu.hitless import linux_order, play

TRANSITIONS = [name.removesuffix("_synced") for name in PLAN if name.endswith("_synced")]


def case_of(name: str) -> Case:
    return msgspec.convert({key: value for key, value in CASES[name].items() if key != "caches"}, type=Case)


def stores(name: str) -> list[dict[int, int]]:
    """What a case stores by address, a group for each of its command steps."""
    groups: list[dict[int, int]] = [{}]
    for step in CASES[name]["steps"]:
        if "mem" in step:
            for where, words in step["mem"].items():
                groups[-1] |= {int(where, 0) + 8 * index: int(word, 0) for index, word in enumerate(words)}
        elif "cmd" in step:
            groups.append({})
    return [group for group in groups if group]


def entries(name: str) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Address, old and new words of the entry that a case updates."""
    base = min(where for group in stores(name) for where in group) & -64
    words = {int(where, 0) + 8 * index: int(word, 0) for where, run in CASES[name]["mem"].items() for index, word in enumerate(run)}
    old = tuple(words.get(base + 8 * index, 0) for index in range(8))
    after = words | {where: word for group in stores(name) for where, word in group.items()}
    return base, old, tuple(after.get(base + 8 * index, 0) for index in range(8))


@pytest.mark.parametrize("name", TRANSITIONS)
def test_linux_order_is_what_the_kernel_stored(name: str) -> None:
    base, old, new = entries(f"{name}_synced")
    kind = PLAN[f"{name}_synced"]["kind"]
    if kind == "ste":  # the KUnit test has no VMID in its stage 2 entries; these cases have 3, which alone would make of s1 to s2 a breaking update
        old, new = ((*one[:2], one[2] & ~0xFFFF, *one[3:]) for one in (old, new))
    groups = linux_order(kind, old, new)
    stored = [
        {where: word & ~0xFFFF if kind == "ste" and where == base + 16 else word for where, word in group.items()}
        for group in stores(f"{name}_synced")
    ]
    assert [{base + 8 * index: word for index, word in group.items()} for group in groups] == stored


def test_a_vmid_that_changes_with_the_stage_is_a_breaking_update() -> None:
    """arm_smmu_get_ste_used() counts S2VMID for stage 1 too: with word 0 two words differ, and V goes to 0 in between."""
    _, old, new = entries("kunit_s1_s2_synced")
    assert linux_order("ste", old, new)[0] == {0: 0}


@pytest.mark.parametrize("name", TRANSITIONS)
def test_the_kernels_transitions_are_hitless_where_it_says_so(name: str) -> None:
    played = play(case_of(f"{name}_synced"))
    assert played.hitless == PLAN[f"{name}_synced"]["hitless"], played.first


def test_naive_orders_that_break_in_order_break_here_too() -> None:
    """25 of the 54 break though every store is seen in order; seen in any order, and cached, more do."""
    from tests.smmu.test_peers import hitless

    naive = [name for name, plan in PLAN.items() if plan.get("naive")]
    plain = {name for name in naive if not hitless(name)}
    found = {name for name in naive if not play(msgspec.structs.replace(case_of(name), caches=False)).hitless}
    assert len(plain) == 25
    assert plain < found
    # one direction of s1 to bypass is safe in order alone: seen in another order it is the other one
    assert {name.rsplit("_", 1)[0] for name in found} == {name.rsplit("_", 1)[0] for name in plain}


def sequence(steps: list[dict[str, Any]], **changed: Any) -> Case:
    """The update of s1 to s2 of the KUnit test, with other steps."""
    return msgspec.convert({**CASES["kunit_s1_s2_synced"], "steps": steps, **changed}, type=Case)


def test_without_its_invalidation_an_entry_of_before_the_old_one_is_met() -> None:
    """Stage 1 to bypass to stage 2, without CFGI: after the second half stage 1 still answers, which neither of its entries says."""
    sync = {"cmd": [["0x46", "0x0"]]}
    invalidation = {"cmd": [["0x800000003", "0x1"], ["0x46", "0x0"]]}
    dma = {"dma": {"sid": 8, "iova": "0x1000"}}
    first = [{"mem": {"0x40100208": ["0x100000000000"]}}, {"mem": {"0x40100200": ["0x9"]}}]
    second = {"mem": {"0x40100200": ["0x1"]}}
    bypass = CASES["kunit_s1_s2_synced"]
    with_it = play(msgspec.convert({**bypass, "steps": [dma, *first, invalidation, second, invalidation]}, type=Case))
    without = play(msgspec.convert({**bypass, "steps": [dma, *first, sync, second, sync]}, type=Case))
    # from stage 1 to abort: bypass in between is neither, cached or not
    assert not with_it.hitless
    assert without.broken > with_it.broken


def test_words_stored_before_one_sync_are_seen_in_any_order() -> None:
    """Abort to stage 2, the words in the kernel's order and one sync at the end: V and Config may be seen without the table."""
    steps = [step for step in CASES["kunit_abort_s2_synced"]["steps"] if "cmd" not in step]
    last = next(step for step in reversed(CASES["kunit_abort_s2_synced"]["steps"]) if "cmd" in step)
    played = play(sequence([*steps, last], mem=CASES["kunit_abort_s2_synced"]["mem"]))
    assert not played.hitless
    assert played.first is not None
    assert played.first.seen.words


def test_an_update_is_worked_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Linux's order from stage 1 to bypass is hitless; all words at once, upwards, are not, and the state is named with its trace."""
    base, _, new = entries("kunit_cdtable_bypass_synced")
    case = CASES["kunit_cdtable_bypass_synced"]
    dmas = [step for step in case["steps"] if "dma" in step][:3]
    updates = [{"kind": "ste", "at": base, "new": [f"{word:#x}" for word in new], "sid": 8, "order": order} for order in ("linux", "up")]
    path = tmp_path / "cases.json"
    kept = {key: value for key, value in case.items() if key not in ("steps", "name")}
    path.write_text(json.dumps([{**kept, "name": update["order"], "steps": dmas, "update": update} for update in updates]))
    assert main(["hitless", str(path), "--json"]) == 1
    linux, up = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (linux["hitless"], up["hitless"]) == (True, False)
    assert up["first"]["seen"]["words"].keys() <= {f"{base:#x}", f"{base + 8:#x}"}
    assert main(["hitless", str(path)]) == 1
    told = capsys.readouterr().out
    assert "linux: hitless in all" in told
    assert "#   ste" in told
    assert main(["translate", str(path)]) == 3
