"""Two SMMUs that share no line of code: the simulated one, and ``tests/smmu/second``, which was written from the specification alone.

``python -m tests.smmu.second.compare --worlds 100000`` is the larger run.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.smmu.second import words as numbers
from tests.smmu.second.compare import compare
from tests.smmu.second.config import Registers
from tests.smmu.second.walker import Second
from tests.smmu.second.words import Access, Memory, bits
from tests.smmu.test_cases import contained
from tests.smmu.test_peers import load

SEED = 20_251
FIXTURES = Path(__file__).parents[2] / "fixtures" / "translation"
KNOWN = {"CR0": "cr0", "CR2": "cr2", "STRTAB_BASE": "strtab_base", "STRTAB_BASE_CFG": "strtab_base_cfg"}


def test_random_worlds_end_alike_and_leave_the_same_memory() -> None:
    """Substreams, ATS, hardware update, memory types, permissions, records: what QEMU does not have."""
    report = compare(1500, SEED)
    assert not report.differing, json.dumps(report.differing[0])
    assert report.updates > 150
    granted = {"success", "bypass", "disable", "silent", "ats granted", "ats nothing", "ats UR", "ats CA"}
    assert granted | {f"event {number:#x}" for number in (2, 3, 4, 6, 7, 8, 9, 10, 11, 16, 17, 18, 19)} <= report.outcomes.keys()


def number(value: Any) -> int:
    return int(value, 0) if isinstance(value, str) else int(value)


def words(contents: dict[str, list[Any]]) -> dict[int, int]:
    return {number(at) + 8 * index: number(word) for at, run in contents.items() for index, word in enumerate(run)}


STAGES = {"nested": (0x0D44_101B, 0x1414), "1": (0x0D44_101A, 0x1404), "2": (0x0D44_1019, 0x1414)}
"""IDR0 and IDR3 of the three SMMUs of the case format: those of QEMU 11.1."""


def registers_of(case: dict[str, Any]) -> Registers:
    idr0, idr3 = STAGES[case.get("stage", "nested")]
    ids = {"idr0": idr0, "idr1": 0x0273_0010, "idr3": idr3, "idr5": 0x74, "aidr": 1}
    ids |= {name: number(value) for name, value in case.get("ids", {}).items()}
    given = {"cr0": 0xD, "cr2": 2, "gbpa": 0x1000, "strtab_base": 0, "strtab_base_cfg": 0}
    given |= {name: number(case[name]) for name in given if name in case}
    return Registers(**ids, **given)


def access_of(dma: dict[str, Any]) -> Access:
    names = {name: dma[name] for name in ("ssid", "privileged", "instruction", "ats", "incoming") if name in dma}
    return Access(number(dma["sid"]), number(dma["iova"]), dma.get("access", "w") == "w", **names)


NAMES = {value: name for name, value in vars(numbers).items() if name[:2] in ("C_", "F_")}


def record(raw: list[int]) -> dict[str, Any]:
    """A record's fields by the names of the case format."""
    word0, word1, word2, word3 = raw
    found: dict[str, Any] = {
        "type": word0 & 0xFF,
        "name": NAMES[word0 & 0xFF],
        "sid": word0 >> 32,
        "ssv": bits(word0, 11),
        "ssid": bits(word0, 31, 12),
    }
    if found["type"] in (7, 11, 16, 17, 18, 19):
        found |= {"rnw": bits(word1, 35), "addr": word2}
    if found["type"] in (11, 16, 17, 18, 19):
        found |= {"pnu": bits(word1, 33), "ind": bits(word1, 34), "s2": bits(word1, 39), "class": ("CD", "TTD", "IN")[bits(word1, 41, 40)]}
        found |= {"stall": bits(word1, 31), "stag": bits(word1, 15, 0)}
    if found["type"] in (3, 9, 11) or found.get("s2"):
        found["addr2"] = word3
    return found


def shown(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "fault": record(answer["fault"]["raw"])} if answer.get("fault") else answer


def play(case: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What the second SMMU answers to each DMA and each read of memory, and what is expected of it."""
    ram = tuple((number(start), number(end)) for start, end in case["ram"]) if "ram" in case else ((0x4000_0000, 0x1_0000_0000),)
    second = Second(registers_of(case), Memory(words(case.get("mem", {})), ram))
    if "steps" not in case:
        return [({key: value for key, value in case["expect"].items() if key != "masked"}, shown(second.answer(access_of(case))))]
    found = []
    expected = iter(case["expect"]["steps"])
    for step in case["steps"]:
        if "dma" in step:
            found.append((next(expected), shown(second.answer(access_of(step["dma"])))))
        elif "mem" in step:
            second.memory.words.update(words(step["mem"]))
        elif "reg" in step:
            changed = {KNOWN[name]: number(value) for name, value in step["reg"].items() if name in KNOWN}
            second.registers = replace(second.registers, **changed)
        else:
            wanted = {where: word for where, word in next(expected)["values"].items() if where[0].isdigit()}
            found.append(({"values": wanted}, {"values": {where: second.memory.read(number(where)) for where in wanted}}))
    return found


def suitable(case: dict[str, Any]) -> bool:
    """At least one DMA, and nothing that the second SMMU does not have: commands, queues, caches, accesses over pages."""
    steps = case.get("steps", [{"dma": case}])
    kinds = {kind for step in steps for kind in step}
    named = {name for step in steps for name in step.get("reg", ())}
    stale = "mem" in kinds and case.get("caches", True)
    return "dma" in kinds and kinds <= {"dma", "mem", "reg", "read"} and named <= KNOWN.keys() and not stale and "size" not in case


CASES = [case for path in sorted(FIXTURES.glob("*.json")) for case in json.loads(path.read_text())]
CASES += [case for name in ("faults.json", "openvmm.json.xz", "kunit.json.xz", "qemu_qtest.json.xz", "acs.json.xz") for case in load(name)]
CASES = [case for case in CASES if suitable(case)]


def test_there_are_cases_of_every_kind() -> None:
    assert len(CASES) > 230


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_second_walker_ends_as_the_specification_and_the_peers_say(case: dict[str, Any]) -> None:
    for expected, answer in play(case):
        assert contained(expected, answer), f"expected {expected}, got {answer}"
