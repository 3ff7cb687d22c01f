"""The plan's topology in a real QEMU, paused, with stand-ins: what is where, what UEFI makes of it, and where DMA ends up.

    topology   every bus, port, vSMMU and function, asked for by QMP; with firmware the bus numbers that UEFI gives, too
    dma        writes of iommu-testdev in the place of each function, through QEMU's own SMMUv3
    reads      the same with edu, which reads

What a QEMU is too old for, or was built without, is left out and said.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qemu.qmp import QMPClient

from wizard.base.errors import ProgramError
from wizard.base.finding import Finding
from wizard.base.text import plural, visible
from wizard.dryrun.model import Cancelled
from wizard.facts.programs import QEMU_NAMES
from wizard.host.vmm import Vmm
from wizard.plan.model import VmPlan, require
from wizard.plan.request import Mode
from wizard.rehearsal.dma import dma_checks
from wizard.rehearsal.engines import Edu, Engine, Testdev
from wizard.rehearsal.guest_buses import FIRMWARE_SECONDS, boot, checks
from wizard.rehearsal.pci import ecam_of, wire
from wizard.rehearsal.process import ANSWER_SECONDS, Abilities, abilities, running
from wizard.rehearsal.qtest import Qtest
from wizard.rehearsal.report import DEAD_PORT, DIFFERS, DMA_DIFFERS, ENDED, REFUSED, Check, Ended, Refused, Report
from wizard.rehearsal.standin import stand_ins

Progress = Callable[[str], None]
"""Told what is done next, in a clause."""


def find_qemu() -> str:
    """The QEMU of this machine, or its usual name where there is none (``rehearse`` says that then)."""
    return next((path for name in QEMU_NAMES if (path := shutil.which(name))), QEMU_NAMES[0])


def firmware_here(vm: VmPlan) -> tuple[Path, Path] | None:
    """The profile's UEFI, its code and the template of its variables, where this machine has them too."""
    if vm.firmware is None or not vm.firmware.vars_template:
        return None
    images = Path(vm.firmware.code), Path(vm.firmware.vars_template)
    return images if all(image.is_file() for image in images) else None


def rehearse(
    vm: VmPlan,
    qemu: str,
    *,
    firmware: tuple[Path, Path] | None = None,
    progress: Progress = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    patience: float | None = None,
) -> Report:
    """Rehearse one planned VM. ``firmware``: UEFI's code and its variables (which are copied); without it only QEMU is asked.

    ``patience`` are the seconds after which a QEMU that is not done counts as hung: a minute, and three more with firmware, if not given.
    ``stop`` is asked ten times a second; when it says so QEMU is ended and ``Cancelled`` raised.
    Raises ``ProgramError`` when QEMU can't be started at all.
    """
    require(vm, Vmm.QEMU, "a rehearsal starts QEMU")
    if shutil.which(qemu) is None:
        raise ProgramError(f"There is no program {visible(qemu)}.", "Install qemu-system-arm, or name another with --qemu PATH.")
    with tempfile.TemporaryDirectory(prefix="smmu-wizard-") as scratch:
        try:
            able = asyncio.run(abilities(qemu, scratch))
        except (Refused, Ended) as refused:
            raise ProgramError(
                f"{visible(qemu)} does not start: {_errors(str(refused))}.", "Name a QEMU for arm64 (qemu-system-aarch64) with --qemu PATH."
            ) from refused
        return _Rehearsal(vm, qemu, able, Path(scratch), progress, stop, patience).run(firmware)


class _Rehearsal:
    """One VM in one QEMU; what was found grows from part to part."""

    def __init__(
        self, vm: VmPlan, qemu: str, able: Abilities, scratch: Path, progress: Progress, stop: Callable[[], bool], patience: float | None
    ) -> None:
        self.vm, self.qemu, self.able, self.scratch = vm, qemu, able, scratch
        self.progress, self.stop, self.patience = progress, stop, patience
        self.checks: list[Check] = []
        self.findings: list[Finding] = []
        self.left_out: list[str] = []
        self.notes: dict[str, None] = {}
        self.words = ""

    def run(self, firmware: tuple[Path, Path] | None) -> Report:
        """Every part that this QEMU has what it takes for."""
        files = None
        if firmware:
            files = (firmware[0], self.scratch / "vars.fd")
            shutil.copyfile(firmware[1], files[1])
        if not self.able.pluggable and self.vm.vsmmus:
            self.left_out.append(f"vSMMUs: QEMU {self.able.version} has no arm-smmuv3 that can be plugged (10.2 or later has)")
        doing = "UEFI numbers its buses" if files else "its topology was asked for"
        self._part(doing, partial(self._topology, files))
        for engine in self._engines():
            self._part(f"{'writes' if engine.writes else 'reads'} of {engine.model} went through it", partial(self._dma, engine))
        self.findings += _findings(self.vm, self.checks)
        return Report(
            self.vm.name, self.qemu, files is not None, tuple(self.checks), tuple(self.notes), tuple(self.findings), self.able.version,
            tuple(self.left_out), self.words,
        )  # fmt: skip

    def _part(self, doing: str, ask: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self.findings:
            return  # a QEMU that refused or died once does so again
        try:
            asyncio.run(self._unless_stopped(ask()))
        except Refused as refused:
            self.words = str(refused)
            self.findings.append(REFUSED.at(self.vm.name, message=_errors(self.words)))
        except Ended as ended:
            self.words = ended.words
            self.findings.append(ENDED.at(self.vm.name, doing=doing, message=visible(str(ended))))

    async def _unless_stopped(self, asking: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(asking)
        while not task.done():
            await asyncio.wait({task}, timeout=0.1)
            if self.stop():
                task.cancel()
                await asyncio.wait({task})  # QEMU is ended on its way out
                raise Cancelled
        task.result()

    def _engines(self) -> Iterator[type[Engine]]:
        """Those that there is something to do for, in this QEMU."""
        if not self.vm.devices:
            return
        if self.vm.mode is Mode.VIRTIO_IOMMU:
            self.left_out.append("DMA: a virtio-iommu is programmed through a queue of its own, which is not rehearsed")
        elif not self.able.pluggable and self.vm.vsmmus:
            self.left_out.append("DMA: there is no vSMMU to send it through")
        elif not self.able.qtest:
            self.left_out.append("DMA: this QEMU has no qtest accelerator (in Debian's packages it is the module accel-qtest)")
        else:
            for engine, there, since in ((Testdev, self.able.testdev, " (11.0 or later has)"), (Edu, self.able.edu, "")):
                if there:
                    yield engine
                else:
                    self.left_out.append(f"{'Writes' if engine.writes else 'Reads'} by DMA: QEMU {self.able.version} has no {engine.model}{since}")

    def _machine(self) -> str | None:
        """The machine type to take where this QEMU has not the plan's."""
        return None if self.vm.machine.type in (*self.able.machines, "virt") else "virt"

    async def _topology(self, firmware: tuple[Path, Path] | None) -> None:
        self.progress("UEFI numbers the buses" if firmware else "the topology, asked for by QMP")
        acted = stand_ins(self.vm, firmware=firmware, vsmmus=self.able.pluggable, machine=self._machine())
        self.notes |= dict.fromkeys(acted.notes)
        self.checks += await ask(
            self.vm, self.qemu, acted.words, str(self.scratch), booted=firmware is not None, vsmmus=self.able.pluggable, patience=self.patience
        )

    async def _dma(self, engine: type[Engine]) -> None:
        self.progress(f"{'writes' if engine.writes else 'reads'} of {plural(len(self.vm.devices), 'function')} through QEMU's SMMUv3")
        path = self.scratch / "qtest"
        path.unlink(missing_ok=True)
        acted = stand_ins(self.vm, engine=(engine.model, engine.properties), machine=self._machine())
        self.notes["DMA: QEMU's SMMUv3 is its emulated one, with stage 1 alone; the nested walk is the dry run's to rehearse"] = None
        words = [*acted.words, "-qtest", f"unix:{str(path).replace(',', ',,')},server=on,wait=off", "-qtest-log", "none"]
        async with running(self.qemu, words, str(self.scratch), limit=self.patience or ANSWER_SECONDS) as client:
            await client.execute("cont")
            tree = await client.execute("human-monitor-command", {"command-line": "info mtree"})
            smmus = {vsmmu.id: await _registers_of(client, vsmmu.id) for vsmmu in self.vm.vsmmus}
            qtest = Qtest.at(path)
            try:
                bars = wire(qtest, ecam_of(str(tree)), self.vm)
                if apart := [assigned.id for assigned in self.vm.devices if assigned.id not in bars]:
                    self.left_out.append(f"DMA of {', '.join(apart)}: only buses below the plan's own root ports are numbered without firmware")
                for check in dma_checks(self.vm, qtest, engine, bars, smmus):
                    self.checks.append(check)
                    await asyncio.sleep(0)  # qtest waits without giving way; here it may be stopped
            except ValueError as error:
                self.left_out.append(f"{'Writes' if engine.writes else 'Reads'} by DMA: {error}")
            finally:
                qtest.close()


async def ask(
    vm: VmPlan, qemu: str, words: Sequence[str], scratch: str, *, booted: bool, vsmmus: bool = True, patience: float | None = None
) -> list[Check]:
    """The topology of the QEMU that ``words`` start; ``booted``: with UEFI, which is waited for. ``Refused`` and ``Ended`` as ``running``."""
    async with running(qemu, words, scratch, limit=patience or ANSWER_SECONDS + FIRMWARE_SECONDS * booted) as client:
        if booted:
            await boot(client)
        return [check async for check in checks(vm, client, booted=booted, vsmmus=vsmmus)]


async def _registers_of(client: QMPClient, id: str) -> int:
    """Where the registers of an arm-smmuv3 are: its region's place in the platform bus, and that one's in the machine."""
    path, address = f"/machine/peripheral/{id}/arm-smmuv3[0]", 0
    for _ in range(2):
        address += int(str(await client.execute("qom-get", {"path": path, "property": "addr"})))
        path = str(await client.execute("qom-get", {"path": path, "property": "container"}))
    return address


def _errors(text: str) -> str:
    """What a QEMU wrote before it ended, in one line; its warnings (warn_report() of util/error-report.c) only where they are all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return visible("; ".join([line for line in lines if ": warning: " not in line] or lines))


def _findings(vm: VmPlan, found: Sequence[Check]) -> Iterator[Finding]:
    for check in found:
        if check.ok:
            continue
        if check.part in ("dma", "reads"):
            yield DMA_DIFFERS.at(vm.name, what_for=check.subject, found=visible(check.found), expected=check.expected)
        elif check.subject.endswith(" bus range") and check.found == "0..0":
            yield DEAD_PORT.at(vm.name, port=check.subject.split()[-3])
        else:
            yield DIFFERS.at(vm.name, what_for=check.subject, found=visible(check.found), expected=check.expected)
