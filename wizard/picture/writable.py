"""What a guest may write, bit by bit and command by command: passes, is rewritten, or is refused, and whose rule that is.

Nothing is listed by hand: each bit and each opcode goes through the functions that stand for the kernel's (``wizard.nesting``) and QEMU's CMDQV,
with a VMID and a StreamID that are not the guest's own, and what comes out is compared. The proof of isolation (``wizard.dryrun.writable``)
judges the same by a list of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from wizard.arch import command
from wizard.arch.command import Command, Op, StreamCommand, Tlbi
from wizard.arch.ste import STE, StreamConfig
from wizard.nesting.errors import KernelError
from wizard.nesting.invalidate import convert
from wizard.nesting.qemu import UNHANDLED
from wizard.nesting.vste import physical, validate
from wizard.smmu.cmdqv import ALLOWED as CMDQV_ALLOWED

GUEST_WORDS = 2
"""64-bit words of an entry that a guest hands over: ``ste[2]`` of struct iommu_hwpt_arm_smmuv3 (include/uapi/linux/iommufd.h)."""
_VALIDATE, _INSTALL = "arm_smmu_validate_vste()", "arm_smmu_make_nested_cd_table_ste()"
_VSID, _SID, _VMID, _WRITTEN = 0x123, 0x456, 9, 5  # a vSID, the StreamID that it stands for, the VM's VMID, and the one that the guest writes


class Fate(StrEnum):
    """What becomes of what a guest writes."""

    PASSES = "passes"
    REWRITTEN = "rewritten"
    REFUSED = "refused"
    KEPT = "kept"  # never asked of the guest: QEMU answers it, or the host's own words stand there


class Bits(msgspec.Struct, frozen=True):
    """One field of a stream table entry, or bits that no field covers: ``hi`` and ``lo`` over the whole entry, both counted."""

    name: str  # empty: reserved
    hi: int
    lo: int
    doc: str
    fate: Fate
    why: str
    source: str


class Opcode(msgspec.Struct, frozen=True):
    """One command: what becomes of it by an ioctl of QEMU's, and in a queue of the guest's own (CMDQV)."""

    opcode: int
    name: str
    fate: Fate
    why: str
    cmdqv: Fate
    source: str


class Writable(msgspec.Struct, frozen=True):
    """All of it."""

    bits: tuple[Bits, ...]
    commands: tuple[Opcode, ...]
    unnamed: int  # opcodes that the specification gives no command: each is refused


def writable() -> Writable:
    """The grid: the same for every guest of Linux 7.2 and QEMU 11.1."""
    named = tuple(sorted(Op))
    return Writable(tuple(_entry()), tuple(map(_command, named)), 256 - len(named))


# -- entries ----------------------------------------------------------------------------------------------------------


def _entry() -> Iterator[Bits]:
    host = STE.build(V=1, Config=StreamConfig.STAGE2, S2VMID=_VMID, S2TTB=0x8000_0000)
    covered = sorted(((f.lo, f.hi, name, f.doc) for name, f in STE.layout.items()), key=lambda one: one[0])
    at = 0
    for lo, hi, name, doc in covered:
        if lo > at:
            yield _field("", at, lo - 1, "reserved", host)
        yield _field(name, lo, hi, doc, host)
        at = hi + 1
    if at < STE.bits:
        yield _field("", at, STE.bits - 1, "reserved", host)


def _field(name: str, lo: int, hi: int, doc: str, host: STE) -> Bits:
    spec = "IHI 0070 H.a, 5.2"
    if lo >= 64 * GUEST_WORDS:
        why = "the host's own word stands here: a guest's entry has two words for the kernel, and stage 2 is not among them"
        return Bits(name, hi, lo, doc, Fate.KEPT, why, f"{spec}; struct iommu_hwpt_arm_smmuv3; {_INSTALL}")
    if name == "Config":
        why = "abort, bypass and stage 1 are taken; stage 1 is installed as stage 1 and 2, bypass as the host's stage 2 alone; the others are EIO"
        return Bits(name, hi, lo, doc, Fate.REWRITTEN, why, f"{spec}; {_VALIDATE}, arm_smmu_make_nested_domain_ste()")
    if name == "EATS":
        why = "refused and full are taken; full is installed only where the kernel has turned ATS on at the function; the others are EIO"
        return Bits(name, hi, lo, doc, Fate.REWRITTEN, why, f"{spec}; {_VALIDATE}, arm_smmu_attach_prepare()")
    refused, changed = None, False
    for bit in range(lo, hi + 1):
        low, high = (STE.build(V=1, Config=StreamConfig.STAGE1).value | 1 << bit).to_bytes(64, "little")[:16], 0
        words = int.from_bytes(low[:8], "little"), int.from_bytes(low[8:], "little") | high
        try:
            installed = physical(validate(words), host, ats=False)
        except KernelError as error:
            refused = error
            continue
        changed |= not installed.value >> bit & 1
    if refused is not None and not changed and name != "S1ContextPtr":
        return Bits(name, hi, lo, doc, Fate.REFUSED, f"{refused.errno}: not a guest's to set", f"{spec}; {refused.where}")
    if refused is not None:
        why = "passes to bit 51; the address bits above are EIO, since Linux has no word for them"
        return Bits(name, hi, lo, doc, Fate.PASSES, why, f"{spec}; {_VALIDATE}, STRTAB_STE_0_S1CTXPTR_MASK")
    fate = Fate.REWRITTEN if changed else Fate.PASSES
    why = "installed as the guest wrote it: it works on stage 1 alone" if fate is Fate.PASSES else "installed with another value"
    return Bits(name, hi, lo, doc, fate, why, f"{spec}; {_VALIDATE}, {_INSTALL}")


# -- commands ---------------------------------------------------------------------------------------------------------

_BY_QEMU = {
    Op.SYNC: "QEMU waits itself: every command before it was carried out when its ioctl returned",
    Op.CFGI_STE: "QEMU reads the entry and asks the kernel for an HWPT of its two words: what the grid of bits says",
    Op.CFGI_STE_RANGE: "QEMU reads each entry of the range, as for CMD_CFGI_STE",
    Op.PREFETCH_CONFIG: "QEMU takes it for done: it is a hint",
    Op.PREFETCH_ADDR: "QEMU takes it for done: it is a hint",
}
"""Commands that smmuv3_cmdq_consume() of QEMU 11.1 answers without a word to the kernel."""


def _command(op: Op) -> Opcode:
    sent = command.FORMATS[op].build(Opcode=op) if op in command.FORMATS else Command.build(Opcode=op)
    if isinstance(sent, StreamCommand):
        sent = sent.replace(StreamID=_VSID)
    if isinstance(sent, Tlbi):
        sent = sent.replace(VMID=_WRITTEN)
    fate, why, where = _by_ioctl(op, sent)
    section = "4.3" if op.name.startswith("CFGI") else "4.4" if op.name.startswith("TLBI") else "4.5" if op is Op.ATC_INV else "4"
    cmdqv = Fate.REFUSED if op not in CMDQV_ALLOWED else Fate.REWRITTEN
    return Opcode(int(op), f"CMD_{op.name}", fate, why, cmdqv, f"IHI 0070 H.a, {section}; {where}")


def _by_ioctl(op: Op, sent: Command) -> tuple[Fate, str, str]:
    if op in _BY_QEMU:
        return Fate.KEPT, _BY_QEMU[op], "QEMU 11.1, smmuv3_cmdq_consume()"
    words = sent.words
    try:
        low, high = convert((words[0], words[1]), _VMID, {_VSID: _SID}.get)
    except KernelError as error:
        aside = "QEMU leaves it aside; the kernel would refuse it with " if op in UNHANDLED else ""
        return Fate.REFUSED, f"{aside}{error.errno}: {error.why}", error.where
    got = command.decode(low, high)
    if isinstance(got, Tlbi) and got.VMID == _VMID:
        other = "" if got.Opcode == op else f"goes out as CMD_{Op(got.Opcode).name}, "
        return Fate.REWRITTEN, f"{other}with the VM's own VMID in place of the guest's", "arm_vsmmu_convert_user_cmd()"
    if isinstance(got, StreamCommand) and got.StreamID == _SID:
        return Fate.REWRITTEN, "with the StreamID of the function in place of the vSID; a vSID that nobody has is EIO", "arm_vsmmu_vsid_to_sid()"
    return Fate.PASSES, "as the guest wrote it", "arm_vsmmu_convert_user_cmd()"
