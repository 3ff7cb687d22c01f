"""Interrupts of the SMMU itself, by wire and by message: IHI 0070 3.18, 4.7.3, 6.3.16, 7.5.1."""

from __future__ import annotations

from typing import Any

import pytest

from wizard.arch.command import Op, build
from wizard.smmu import Ids, Interrupt, Memory, Msi, Smmu, Transaction, state
from wizard.smmu.cases import run_plain
from wizard.smmu.machine import Edge, Machine, Message

SYNC = [*build(Op.SYNC, CS=1, MSIAddress=0x4300_0000, MSIData=7).words]
WIRED_SYNC = [*build(Op.SYNC, CS=1).words]
SILENT_SYNC = [*build(Op.SYNC, MSIAddress=0x4300_0000, MSIData=7).words]
ILLEGAL = [0xFF, 0]
NOWHERE = 0x1000
BAD_STREAM: dict[str, Any] = {"dma": {"sid": 3, "iova": 0}}
RICH = Ids.everything()
IDS = {"idr0": RICH.idr0, "idr1": RICH.idr1, "idr3": RICH.idr3, "idr5": RICH.idr5, "aidr": RICH.aidr}
NO_MSI = {**IDS, "idr0": RICH.idr0 & ~(1 << 13)}


def configured(enable: int, **addresses: int) -> dict[str, Any]:
    """The step that writes the registers: addresses by source, then IRQ_CTRL."""
    written = {f"{source}_IRQ_CFG0": address for source, address in addresses.items()}
    return {"reg": {**written, "EVENTQ_IRQ_CFG1": 1, "GERROR_IRQ_CFG1": 2, "IRQ_CTRL": enable}}


def message(address: int, data: int) -> dict[str, str]:
    return {"address": f"{address:#x}", "data": f"{data:#x}"}


ASKED: dict[str, Any] = {"interrupts": True}
SITUATIONS: dict[str, tuple[dict[str, int], list[dict[str, Any]], list[tuple[str, dict[str, str] | None]]]] = {
    # 6.3.21: no address is no message, and the wire instead.
    "wire": (IDS, [configured(4), BAD_STREAM], [("EVENTQ", None)]),
    "message, and the wire with it": (IDS, [configured(4, EVENTQ=0x4300_0010), BAD_STREAM], [("EVENTQ", message(0x4300_0010, 1))]),
    # 3.18: without MSIs the address means nothing; the register reads as zero.
    "no messages": (NO_MSI, [configured(4, EVENTQ=0x4300_0010), BAD_STREAM], [("EVENTQ", None)]),
    "disabled": (IDS, [configured(3), BAD_STREAM], []),
    # 6.3.16: not what happened before it was enabled, and not again while the queue is not empty.
    "enabled too late": (IDS, [BAD_STREAM, configured(4), BAD_STREAM], []),
    "not empty": (IDS, [configured(4), BAD_STREAM, BAD_STREAM], [("EVENTQ", None)]),
    "empty again": (IDS, [configured(4), BAD_STREAM, {"events": True}, BAD_STREAM], [("EVENTQ", None), ("EVENTQ", None)]),
    # 4.7.3: by wire whatever MSIAddress is, by message where it is not 0; no enable bit.
    "sync": (IDS, [{"cmd": [SYNC, SILENT_SYNC, WIRED_SYNC]}], [("SYNC", message(0x4300_0000, 7)), ("SYNC", None)]),
    "sync without messages": (NO_MSI, [{"cmd": [SYNC]}], [("SYNC", None)]),
    "command error": (IDS, [configured(1), {"cmd": [ILLEGAL]}], [("GERROR", None)]),
    "command queue that starts at an error": (
        IDS,
        [configured(1), {"mem": {"0x42000000": ILLEGAL}}, {"reg": {"CMDQ_BASE": 0x4200_0003, "CMDQ_PROD": 1}}, {"reg": {"CR0": 0xD}}],
        [("GERROR", None)],
    ),
    # 7.5: the message that nothing takes is a global error, which interrupts; the wire had its edge.
    "message into nowhere": (IDS, [configured(5, EVENTQ=NOWHERE), BAD_STREAM], [("EVENTQ", None), ("GERROR", None)]),
    # 7.5.1: but for GERROR's own.
    "error's message into nowhere": (IDS, [configured(1, GERROR=NOWHERE), {"cmd": [ILLEGAL]}], [("GERROR", None)]),
    "in order": (
        IDS,
        [configured(5, GERROR=0x4300_0020), BAD_STREAM, {"cmd": [SYNC, ILLEGAL]}],
        [("EVENTQ", None), ("SYNC", message(0x4300_0000, 7)), ("GERROR", message(0x4300_0020, 2))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SITUATIONS)
def test_interrupts_are_told_in_order(name: str) -> None:
    ids, steps, expected = SITUATIONS[name]
    off = name == "command queue that starts at an error"
    *_, first, second = run_plain({"ids": ids, "cr0": 5 if off else 0xD, "strtab_base": 0x4100_0000, "steps": [*steps, ASKED, ASKED]})["steps"]
    assert first == {"interrupts": [{"source": source, "msi": msi} for source, msi in expected]}
    assert second == {"interrupts": []}, "each is told once"


def test_library_tells_wires_and_messages_and_keeps_them() -> None:
    smmu = Smmu(RICH, Memory())
    smmu.write("IRQ_CTRL", 4)
    smmu.write("CR2", 2)
    smmu.write("CR0", 0xD)
    smmu.translate(Transaction(sid=3, iova=0))
    smmu.submit([(SYNC[0], SYNC[1])])
    assert smmu.edges == [Interrupt("EVENTQ"), Interrupt("SYNC", Msi("SYNC", 0x4300_0000, 7))]
    restored = state.restore(state.save(smmu), Memory())
    assert restored.edges == smmu.edges
    smmu.reset()
    assert smmu.edges == restored.edges, "what was told stays told"


def test_machine_tells_an_edge_before_its_message() -> None:
    machine = Machine()
    machine.add("smmu0", RICH).command(SYNC[0], SYNC[1])
    assert machine.news() == []
    machine.write(0x0905_0020, 8, 4)  # CR0.CMDQEN
    machine.smmus["smmu0"].smmu.command(SYNC[0], SYNC[1])
    assert machine.news() == [Edge("smmu0", "SYNC"), Message("smmu0", Msi("SYNC", 0x4300_0000, 7))]
    assert machine.news() == []
