"""What each command does to the caches, the stalled transactions and the endpoints: IHI 0070, chapter 4."""

from __future__ import annotations

from collections.abc import Callable

from wizard.arch import command as commands
from wizard.arch.command import TLBI_GRANULES, AtcInv, CfgiCd, CfgiSte, CfgiSteRange, Command, CommandError, Op, PriResp, Resume, Sync, Tlbi
from wizard.smmu.ats import Endpoints
from wizard.smmu.cache import EVERYTHING, Scope, Tlb, of_vmid, with_global
from wizard.smmu.config import Configuration
from wizard.smmu.context import Space
from wizard.smmu.outcome import Outcome, Transaction
from wizard.smmu.registers import Registers
from wizard.smmu.report import Report

OK, ILL = CommandError.CERROR_NONE, CommandError.CERROR_ILL
_EL1, _BOTH = ("EL1",), ("EL1", "IPA")


class Executor:
    """Executes commands one at a time. ``executed`` counts them, ``responses`` are those of CMD_PRI_RESP; ``again`` retries a stalled transaction."""

    __slots__ = ("again", "configuration", "endpoints", "executed", "features", "interrupts", "registers", "report", "responses", "tlb")

    def __init__(
        self, registers: Registers, tlb: Tlb | None, configuration: Configuration, report: Report, endpoints: Endpoints,
        again: Callable[[Transaction], Outcome],
    ) -> None:  # fmt: skip
        self.registers, self.features, self.tlb, self.configuration = registers, registers.features, tlb, configuration
        self.report, self.interrupts, self.endpoints, self.again = report, report.interrupts, endpoints, again
        self.executed = 0
        self.responses: list[PriResp] = []

    def execute(self, dword0: int, dword1: int) -> CommandError:
        """Execute the command in two 64-bit words; CERROR_ILL for what the architecture calls ILLEGAL."""
        self.executed += 1
        decoded = commands.decode(dword0, dword1)
        if type(decoded) is Command:
            return ILL
        op = Op(decoded.Opcode)
        if "SSec" in decoded.layout and decoded.layout["SSec"].get(decoded.value):
            return ILL
        if isinstance(decoded, Tlbi):
            return self._tlbi(op, decoded)
        if isinstance(decoded, CfgiSte | CfgiSteRange | CfgiCd):
            return self._cfgi(op, decoded)
        if isinstance(decoded, Sync):
            return self._sync(decoded)
        if isinstance(decoded, AtcInv):
            return self._atc(decoded)
        if isinstance(decoded, PriResp):
            return self._pri(decoded)
        if isinstance(decoded, Resume):
            return self._resume(op, decoded)
        return OK  # CMD_PREFETCH_*: a hint that this model does not take

    # -- configuration ------------------------------------------------------------------------------------------------

    def _cfgi(self, op: Op, command: CfgiSte | CfgiSteRange | CfgiCd) -> CommandError:
        if isinstance(command, CfgiCd) and not self.features.s1p:
            return ILL
        cache = self.configuration.cache
        if cache is None:
            return OK
        sid = command.StreamID
        if isinstance(command, CfgiSte):
            cache.drop_ste(sid, sid, level1=not command.Leaf, split=self.configuration.split)
        elif isinstance(command, CfgiSteRange):
            size = 2 << command.Range
            low = sid & -size
            cache.drop_ste(low, low + size - 1, level1=True, split=self.configuration.split)
        elif op is Op.CFGI_CD_ALL:
            cache.drop_cds(sid, sid)
        else:
            cache.drop_cd(sid, command.SubstreamID, level1=not command.Leaf)
        return OK

    # -- translations -------------------------------------------------------------------------------------------------

    def _tlbi(self, op: Op, command: Tlbi) -> CommandError:
        if op in (Op.TLBI_EL3_ALL, Op.TLBI_EL3_VA, Op.CFGI_VMS_PIDM):
            return ILL
        if op.name.startswith("TLBI_NH_") and not self.features.s1p:
            return ILL
        if op.name.startswith("TLBI_EL2_") and not self.features.hyp:
            return ILL
        if op in (Op.TLBI_S12_VMALL, Op.TLBI_S2_IPA) and not self.features.s2p:
            return ILL
        scope: Scope | None = Scope()
        if op in (Op.TLBI_NH_VA, Op.TLBI_NH_VAA, Op.TLBI_EL2_VA, Op.TLBI_EL2_VAA, Op.TLBI_S2_IPA):
            scope = self._scope(command, ipa=op is Op.TLBI_S2_IPA)
        if scope is None:
            return ILL
        if self.tlb is not None:
            self.tlb.invalidate(self._spaces(op, command), scope)
        return OK

    def _scope(self, command: Tlbi, *, ipa: bool) -> Scope | None:
        """The addresses that a command names, or None when range and hint are both missing although TG is given (4.4.1.1)."""
        start = command.Address & ((1 << 56) - 1) if ipa else command.Address
        leaf = bool(command.Leaf)
        if not self.features.ril or command.TG == 0:
            return Scope(start, 1, leaf_only=leaf)
        granule = TLBI_GRANULES[command.TG]
        level = 0 if command.TG == 2 and command.TTL == 1 else command.TTL
        scale = command.SCALE & 0x1F
        if command.NUM == 0 and scale == 0 and level == 0:
            return None
        length = min((command.NUM + 1) << scale << granule, EVERYTHING)
        return Scope(start, length, granule, level, leaf)

    def _spaces(self, op: Op, command: Tlbi) -> Callable[[Space], bool]:
        vmid = command.VMID if self.features.s2p else 0
        wildcard = self.registers.cr0.VMW if self.features.vmw and self.registers.cr0.VMW <= 4 else 0
        e2h = bool(self.registers.cr2.E2H)
        if op is Op.TLBI_NSNH_ALL:
            return lambda space: space[0] in _BOTH
        if op is Op.TLBI_NH_ALL or op is Op.TLBI_NH_VAA:
            return of_vmid(_EL1, vmid, None, wildcard)
        if op is Op.TLBI_NH_ASID:
            return of_vmid(_EL1, vmid, command.ASID, wildcard)
        if op is Op.TLBI_NH_VA:
            return with_global(_EL1, vmid, command.ASID, wildcard)
        if op is Op.TLBI_S12_VMALL:
            return of_vmid(_BOTH, vmid, None, wildcard)
        if op is Op.TLBI_S2_IPA:
            return of_vmid(("IPA",), vmid, None, wildcard)
        if op is Op.TLBI_EL2_ALL:
            return lambda space: space[0] in ("EL2", "E2H")
        if op is Op.TLBI_EL2_ASID:
            return of_vmid(("E2H",), 0, command.ASID)
        if op is Op.TLBI_EL2_VA and e2h:
            return with_global(("E2H",), 0, command.ASID)
        return of_vmid(("E2H" if e2h else "EL2",), 0, None)

    # -- endpoints and stalled transactions ---------------------------------------------------------------------------

    def _atc(self, command: AtcInv) -> CommandError:
        if not self.features.ats or command.Size > 52:
            return ILL
        if self.registers.smmuen:
            self.endpoints.invalidate(command)
        return OK

    def _pri(self, command: PriResp) -> CommandError:
        if not self.features.pri or command.Resp == 3:
            return ILL
        if self.registers.smmuen:
            self.responses.append(command)
        return OK

    def _resume(self, op: Op, command: Resume) -> CommandError:
        if self.features.stall_model == 1:
            return ILL
        if op is Op.RESUME:
            self.report.resumed += self.report.stalls.resume(command, self.again, abort_only=self.features.term_model)
        else:
            self.report.terminate("terminated by CMD_STALL_TERM", command.StreamID)
        self.report.retry(self.again)
        return OK

    def _sync(self, command: Sync) -> CommandError:
        """CMD_SYNC: everything before it is complete; it waits for ATC invalidations and may send an MSI (4.7.3)."""
        if command.CS == 3:
            return ILL
        if self.endpoints.pending:
            self.endpoints.pending = False
            return CommandError.CERROR_ATC_INV_SYNC
        self.interrupts.complete(command)
        return OK
