"""Whatever a case says, it gets an answer: random registers, structures, tables and commands, over every kind of SMMU."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tests.smmu.qemu.generate import generate
from tests.smmu.world import RICH
from wizard.arch.cd import CD
from wizard.arch.registers import REGISTERS
from wizard.arch.ste import STE
from wizard.smmu.cases import run_plain

WORDS = (0, 1, 3, (1 << 64) - 1, 1 << 63)


def noise(rng: Random) -> int:
    return rng.choice([rng.choice(WORDS), rng.randrange(1 << 64), 0x4010_0000 + rng.randrange(1 << 16) * 8 | rng.randrange(4)])


def random_case(rng: Random) -> dict[str, Any]:
    case = generate(rng)
    memory = case["mem"]
    for key in list(memory):
        if rng.random() < 0.15:
            memory[key] = [f"{int(memory[key][0], 0) ^ 1 << rng.randrange(64):#x}"]
        if rng.random() < 0.03:
            memory[key] = [f"{noise(rng):#x}"]
    if rng.random() < 0.3:
        record = rng.choice([STE, CD])
        for index, word in enumerate(record(rng.randrange(1 << 512)).words):
            memory[f"{0x4010_0000 + case['sid'] * 64 + 8 * index:#x}"] = [word | (1 if index == 0 else 0)]
    ids = {"idr0": RICH.idr0, "idr1": RICH.idr1, "idr3": RICH.idr3, "idr5": RICH.idr5, "aidr": rng.randrange(4)}
    if rng.random() < 0.5:
        name = rng.choice(["idr0", "idr1", "idr3", "idr5"])
        ids[name] ^= 1 << rng.randrange(32)
    case["ids"] = ids
    dma = {name: case.pop(name) for name in ("sid", "iova", "access")}
    dma["ssid"] = rng.choice([None, 0, 1, rng.randrange(1 << 20)])
    dma["ats"] = rng.choice([None, None, None, "request", "translated"])
    dma["privileged"], dma["instruction"] = rng.random() < 0.5, rng.random() < 0.3
    steps: list[dict[str, Any]] = [{"dma": dma}]
    for _ in range(rng.randrange(6)):
        kind = rng.randrange(4)
        if kind == 0:
            steps.append({"cmd": [[rng.randrange(1 << 64) & ~0xFF | rng.randrange(0x50), noise(rng)] for _ in range(4)]})
        elif kind == 1:
            name = rng.choice(list(REGISTERS))
            steps.append({"reg": {name: noise(rng) & (1 << REGISTERS[name].layout.bits) - 1}})
        elif kind == 2:
            steps.append({"events": True})
        steps.append({"dma": dma})
    return {**case, "steps": steps}


@pytest.mark.parametrize("seed", range(4))
def test_every_case_gets_an_answer(seed: int) -> None:
    rng = Random(seed)
    for _ in range(400):
        case = random_case(rng)
        answer = run_plain(case, trace=rng.random() < 0.2)
        if "error" in answer:
            assert any(word in answer["error"] for word in ("SIDSIZE", "without any stage", "does not fit")), answer
        else:
            assert len(answer["steps"]) >= 1
