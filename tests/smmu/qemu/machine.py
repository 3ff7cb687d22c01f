"""QEMU's SMMUv3 under qtest: memory is written from outside, iommu-testdev writes and edu reads through the SMMU.

docs/devel/testing/qtest.rst gives the protocol, docs/specs/iommu-testdev.rst and edu.rst the devices. No processor runs.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.tools.processes import LIMIT
from wizard.arch import command, event
from wizard.arch.command import CommandError, Op
from wizard.arch.registers import GERROR, REGISTERS, CmdqCons, QueueBase
from wizard.rehearsal.qtest import Qtest

SMMU = 0x0905_0000
ECAM = 0x3F00_0000
TESTDEV, OTHER_TESTDEV, EDU = 8, 16, 40
"""StreamIDs: devices 1, 2 and 5 of bus 0."""

_TESTDEV_BAR, _EDU_BAR, _OTHER_TESTDEV_BAR = 0x1000_0000, 0x1010_0000, 0x1020_0000
COMMANDS, EVENTS = 0x4800_0000, 0x4900_0000
_LOG2 = 10
RAM_START, RAM_END = 0x4000_0000, 0x1_0000_0000
PATTERN = 0x1234_5678
_MISMATCH = 0xDEAD_0004
"""The test device's word for: the write went through, and not to where it was expected."""


class Machine:
    """One QEMU with an SMMUv3 of both stages. Use it as a context manager."""

    def __init__(self, qemu: Path, *, stage: str = "nested") -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="smmu-qtest-")
        path = f"{self._scratch.name}/qtest"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        listener.settimeout(LIMIT)
        # A file, not a pipe: nobody reads it while QEMU runs.
        self._said = (Path(self._scratch.name) / "stderr").open("w+b")
        self._process = subprocess.Popen(
            [
                qemu, "-machine", "virt,iommu=smmuv3,highmem=off", "-accel", "qtest", "-m", "3G", "-nodefaults", "-display", "none",
                "-global", f"arm-smmuv3.stage={stage}", "-device", "iommu-testdev,addr=1.0",
                "-device", "iommu-testdev,addr=2.0",
                "-device", "edu,addr=5.0,dma_mask=0xffffffffffffffff", "-qtest", f"unix:{path}", "-qtest-log", "none",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._said,
        )  # fmt: skip
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            self._process.kill()
            raise RuntimeError(self.said()) from None
        finally:
            listener.close()
        self._qtest = Qtest(connection, seconds=120)
        self._prod = 0
        self._start()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._qtest.close()
        self._process.kill()
        self._process.wait(LIMIT)
        self._said.close()
        self._scratch.cleanup()

    def said(self) -> str:
        """What QEMU wrote to standard error."""
        self._said.seek(0)
        return self._said.read().decode(errors="replace")

    def ask(self, lines: Sequence[str]) -> list[str]:
        """Send commands and collect their answers, without ``OK``; ``OSError`` when QEMU refuses one or goes away."""
        return self._qtest.ask(lines)

    def register(self, name: str, value: int) -> str:
        """The command that writes an SMMU register."""
        register = REGISTERS[name]
        return f"write{'q' if register.layout.bits == 64 else 'l'} {SMMU + register.offset:#x} {value:#x}"

    def _start(self) -> None:
        lines = []
        for device, bar in ((1, _TESTDEV_BAR), (2, _OTHER_TESTDEV_BAR), (5, _EDU_BAR)):
            config = ECAM + (device << 15)
            lines += [f"writel {config + 0x10:#x} {bar:#x}", f"writew {config + 4:#x} 0x6"]
        commands = [
            command.build(Op.CFGI_STE_RANGE, Range=31),
            command.build(Op.TLBI_NSNH_ALL),
            command.build(Op.SYNC),
            command.build(Op.SYNC),
        ]
        data = b"".join(word.to_bytes(8, "little") for one in commands for word in one.words) * (1 << _LOG2 - 2)
        lines += [f"write {COMMANDS:#x} {len(data)} 0x{data.hex()}"]
        lines += [
            self.register("CMDQ_BASE", QueueBase.build(LOG2SIZE=_LOG2, ADDR=COMMANDS).value),
            self.register("EVENTQ_BASE", QueueBase.build(LOG2SIZE=_LOG2, ADDR=EVENTS).value),
            self.register("CR0", 0),
            self.register("CR2", 2),
        ]
        self.ask(lines)

    def one_command(self, dword0: int, dword1: int) -> str:
        """Put one command into an emptied queue; the name of its error. The queue works again afterwards."""
        where = COMMANDS + (self._prod & (1 << _LOG2) - 1) * 16
        data = dword0.to_bytes(8, "little") + dword1.to_bytes(8, "little")
        next_one = (self._prod + 1) & (2 << _LOG2) - 1
        gerrorn = SMMU + REGISTERS["GERRORN"].offset
        answers = self.ask(
            [
                self.register("CR0", 0xD),
                f"write {where:#x} 16 0x{data.hex()}",
                self.register("CMDQ_PROD", next_one),
                f"readl {SMMU + REGISTERS['CMDQ_CONS'].offset:#x}",
                f"readl {SMMU + REGISTERS['GERROR'].offset:#x}",
            ]
        )
        error = CommandError(CmdqCons(int(answers[3], 0)).ERR) if self._acknowledged != GERROR(int(answers[4], 0)).CMDQ_ERR else CommandError(0)
        if error:
            self._acknowledged ^= 1
            repaired = b"".join(word.to_bytes(8, "little") for word in command.build(Op.SYNC).words)
            self.ask([f"write {where:#x} 16 0x{repaired.hex()}", f"writel {gerrorn:#x} {answers[4]}", self.register("CMDQ_PROD", next_one)])
        self._prod = next_one
        return error.name

    _acknowledged = 0

    # -- cases --------------------------------------------------------------------------------------------------------

    def run(self, cases: Sequence[tuple[dict[str, Any], int]]) -> list[dict[str, Any]]:
        """Answer cases of one DMA each, in the case format; with each comes the address where a write is expected to land.

        At most 256 at a time, so that the event queue never fills. Memory is zero again afterwards.
        """
        lines: list[str] = []
        marks = []
        for case, landing in cases:
            marks.append(self._one(lines, case, landing))
        answers = self.ask(lines)
        ends = [int(answers[prod_at], 0) & (2 << _LOG2) - 1 for _, prod_at in marks]
        records = self._events(ends[-1]) if ends else []
        results = []
        for (_, landing), (result_at, _), after in zip(cases, marks, ends, strict=True):
            found = None
            if after != self._events_seen:
                found = records.pop(0)
                self._events_seen = (self._events_seen + 1) & (2 << _LOG2) - 1
                if self._events_seen != after:
                    raise RuntimeError("more than one event of one DMA")
            status = int(answers[result_at], 0) if result_at is not None else None
            results.append(_answer(found, status, landing))
        self.ask([self.register("EVENTQ_CONS", self._events_seen)])
        return results

    _events_seen = 0

    def _events(self, end: int) -> list[event.Event]:
        """The records between those seen and ``end``."""
        lines, index = [], self._events_seen
        while index != end:
            lines.append(f"read {EVENTS + (index & (1 << _LOG2) - 1) * event.EVENT_BYTES:#x} {event.EVENT_BYTES}")
            index = (index + 1) & (2 << _LOG2) - 1
        return [event.decode(event.Event.of_bytes(bytes.fromhex(data[2:])).value) for data in self.ask(lines)]

    def play(self, case: dict[str, Any], targets: Sequence[int]) -> list[dict[str, Any]]:
        """Answer the DMAs of a case of ``mem``, ``cmd``, ``reg`` and ``dma`` steps; a write is a test device's and lands in the first 4 KiB
        of one of the ``targets``, or where its own address says. Caches are empty before, memory and queues in order after it."""
        lines: list[str] = []
        written = self._store(lines, case["mem"])
        lines += [
            self.register("STRTAB_BASE", int(case["strtab_base"], 0)),
            self.register("STRTAB_BASE_CFG", int(case["strtab_base_cfg"], 0)),
            self.register("CR0", 0xD),
        ]
        for op in (command.build(Op.CFGI_STE_RANGE, Range=31), command.build(Op.TLBI_NSNH_ALL)):
            self._command(lines, *op.words)
        marks: list[tuple[int | None, list[tuple[int, int]], int]] = []
        for step in case["steps"]:
            if "mem" in step:
                written += self._store(lines, step["mem"])
            elif "cmd" in step:
                for dword0, dword1 in step["cmd"]:
                    self._command(lines, dword0, dword1)
            elif "reg" in step:
                lines += [self.register(name, int(value, 0)) for name, value in step["reg"].items()]
            else:
                marks.append(self._write_anywhere(lines, step["dma"], targets))
        lines += [f"memset {where:#x} {size} 0x0" for where, size in written]
        lines.append(f"readl {SMMU + REGISTERS['CMDQ_CONS'].offset:#x}")
        told = self.ask(lines)
        if (consumed := int(told[-1], 0)) != self._prod:
            raise RuntimeError(f"the command queue stopped at {consumed:#x}, not {self._prod:#x}")
        self._prod = self._prod + 3 & -4 & (2 << _LOG2) - 1
        results = []
        ends = [int(told[prod_at], 0) & (2 << _LOG2) - 1 for _, _, prod_at in marks]
        records = self._events(ends[-1]) if ends else []
        for (status_at, landings, _), after in zip(marks, ends, strict=True):
            found = None
            if after != self._events_seen:
                found, self._events_seen = records.pop(0), (self._events_seen + 1) & (2 << _LOG2) - 1
            if status_at is None:
                results.append(_answer(found, None, 0))
                continue
            reached = [where for where, read_at in landings if int(told[read_at], 0) == PATTERN]
            if found is None and len(reached) == 1 and int(told[status_at], 0) in (0, _MISMATCH):
                results.append({"ok": True, "pa": reached[0]})
            else:
                results.append(_answer(found, int(told[status_at], 0), 0))
        self.ask([self.register("EVENTQ_CONS", self._events_seen)])
        return results

    def _store(self, lines: list[str], contents: dict[str, list[str]]) -> list[tuple[int, int]]:
        written = []
        for address, words in contents.items():
            data = b"".join(int(word, 0).to_bytes(8, "little") for word in words)
            lines.append(f"write {address} {len(data)} 0x{data.hex()}")
            written.append((int(address, 0), len(data)))
        return written

    def _command(self, lines: list[str], dword0: int, dword1: int) -> None:
        data = dword0.to_bytes(8, "little") + dword1.to_bytes(8, "little")
        lines.append(f"write {COMMANDS + (self._prod & (1 << _LOG2) - 1) * 16:#x} 16 0x{data.hex()}")
        self._prod = (self._prod + 1) & (2 << _LOG2) - 1
        lines.append(self.register("CMDQ_PROD", self._prod))

    def _write_anywhere(self, lines: list[str], dma: dict[str, Any], targets: Sequence[int]) -> tuple[int | None, list[tuple[int, int]], int]:
        """A write and what tells where it went: the lines of its status, of each place it may be at, and of EVENTQ_PROD; of a read only the last."""
        iova = int(dma["iova"], 0)
        if dma["sid"] == EDU:
            lines += [*_read(iova), f"readl {SMMU + REGISTERS['EVENTQ_PROD'].offset:#x}"]
            return None, [], len(lines) - 1
        places = [target + (iova & 0xFFF) for target in targets]
        lines += _write({TESTDEV: _TESTDEV_BAR, OTHER_TESTDEV: _OTHER_TESTDEV_BAR}[dma["sid"]], iova, places[0])
        status_at = len(lines) - 1
        landings = []
        for place in [*places, *(iova,) * (RAM_START <= iova < RAM_END)]:
            lines += [f"readl {place:#x}", f"writel {place:#x} 0x0"]
            landings.append((place, len(lines) - 2))
        lines.append(f"readl {SMMU + REGISTERS['EVENTQ_PROD'].offset:#x}")
        return status_at, landings, len(lines) - 1

    def _one(self, lines: list[str], case: dict[str, Any], landing: int) -> tuple[int | None, int]:
        written = []
        for address, words in case["mem"].items():
            data = b"".join(int(word, 0).to_bytes(8, "little") for word in words)
            where = int(address, 0)
            if where >= RAM_END or where < RAM_START:
                continue
            lines.append(f"write {where:#x} {len(data)} 0x{data.hex()}")
            written.append((where, len(data)))
        lines.append(self.register("STRTAB_BASE", int(case["strtab_base"], 0)))
        lines.append(self.register("STRTAB_BASE_CFG", int(case["strtab_base_cfg"], 0)))
        lines.append(self.register("CR0", 0xD))
        self._prod = (self._prod + 4) & (2 << _LOG2) - 1
        lines.append(self.register("CMDQ_PROD", self._prod))
        iova = int(case["iova"], 0)
        result_at = None
        if case["access"] == "w":
            lines += _write(_TESTDEV_BAR, iova, landing)
            result_at = len(lines) - 1
        else:
            lines += _read(iova)
        lines.append(f"readl {SMMU + REGISTERS['EVENTQ_PROD'].offset:#x}")
        prod_at = len(lines) - 1
        for where, size in written:
            lines.append(f"memset {where:#x} {size} 0x0")
        if RAM_START <= landing < RAM_END:
            lines.append(f"memset {landing:#x} 4 0x0")
        return result_at, prod_at


def _read(iova: int) -> list[str]:
    """A read of 4 bytes by edu, which takes its time (docs/specs/edu.rst)."""
    return [
        f"writeq {_EDU_BAR + 0x80:#x} {iova:#x}",
        f"writeq {_EDU_BAR + 0x88:#x} 0x40000",
        f"writeq {_EDU_BAR + 0x90:#x} 4",
        f"writeq {_EDU_BAR + 0x98:#x} 1",
        "clock_step 200000000",
    ]


def _write(bar: int, iova: int, landing: int) -> list[str]:
    """A write of 4 bytes by a test device; the last line reads its result."""
    return [
        f"writel {bar + 0x04:#x} {iova & 0xFFFF_FFFF:#x}",
        f"writel {bar + 0x08:#x} {iova >> 32:#x}",
        f"writel {bar + 0x0C:#x} 4",
        f"writel {bar + 0x18:#x} 2",
        f"writel {bar + 0x1C:#x} {landing & 0xFFFF_FFFF:#x}",
        f"writel {bar + 0x20:#x} {landing >> 32:#x}",
        f"writel {bar + 0x14:#x} 1",
        f"readl {bar:#x}",
        f"readl {bar + 0x10:#x}",
    ]


def _answer(found: event.Event | None, status: int | None, landing: int) -> dict[str, Any]:
    """In the case format: ``ok`` with ``pa`` where the write was read back, ``fault``, or for a read without an event ``ok`` without ``pa``."""
    if found is not None:
        fields = found.fields()
        kind = found.Type
        name = event.EventType(kind).name if kind in set(event.EventType) else hex(kind)
        fault: dict[str, Any] = {"type": kind, "name": name}
        if "S2" in fields:
            fault |= {"s2": fields["S2"], "class": event.FaultClass(fields["CLASS"]).name, "addr": fields["InputAddr"], "rnw": fields["RnW"]}
        return {"fault": fault}
    if status is None:
        return {"ok": True}
    if status == 0:
        return {"ok": True, "pa": landing}
    if status == _MISMATCH:
        return {"ok": True, "pa": None}
    return {"fault": None}
