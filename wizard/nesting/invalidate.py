"""Invalidation by a VMM: arm_vsmmu_convert_user_cmd() and arm_vsmmu_cache_invalidate().

The kernel decides by opcode and forces the VMID or the StreamID. Since Linux 7.3 it also looks at every other field (``fields``); 7.2 and older
hand what is left to the command queue unlooked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from wizard.arch import command
from wizard.arch.command import Command, Op, StreamCommand, Tlbi
from wizard.nesting.errors import KernelError
from wizard.nesting.fields import FieldCheck

BATCH = 63
"""Commands between two CMD_SYNCs: CMDQ_BATCH_ENTRIES - 1."""

TLBI = frozenset({Op.TLBI_NH_VA, Op.TLBI_NH_VAA, Op.TLBI_NH_ALL, Op.TLBI_NH_ASID})
STREAM = frozenset({Op.ATC_INV, Op.CFGI_CD, Op.CFGI_CD_ALL})
_OPCODES = frozenset(Op)
ALLOWED = TLBI | STREAM | {Op.TLBI_NSNH_ALL}
"""Opcodes that pass; any other is EIO."""

Words = tuple[int, int]


def convert(words: Words, vmid: int, stream_of: Callable[[int], int | None], check: FieldCheck | None = None) -> Words:
    """One command as the hardware gets it; ``stream_of`` finds the StreamID of a vSID, ``check`` is that of Linux 7.3, None up to 7.2.

    ``KernelError`` EIO for what may not pass. What passes with a check passes without one.
    """
    where = "arm_vsmmu_convert_user_cmd()"
    if check is not None:
        check.validate(words)
    opcode = Command.Opcode.get(words[0])
    if opcode == Op.TLBI_NSNH_ALL:
        return _words(Tlbi.build(Opcode=Op.TLBI_NH_ALL, VMID=vmid))
    if opcode in TLBI:
        return _words(Tlbi.of_words(words).replace(VMID=vmid))
    if opcode in STREAM:
        named = StreamCommand.of_words(words)
        sid = stream_of(named.StreamID)
        if sid is None:
            raise KernelError("EIO", "arm_vsmmu_vsid_to_sid()", f"vSID {named.StreamID:#x} has no vDEVICE")
        return _words(named.replace(StreamID=sid))
    raise KernelError("EIO", where, _not_allowed(opcode))


@lru_cache(maxsize=256)
def _not_allowed(opcode: int) -> str:
    name = f"CMD_{Op(opcode).name}" if opcode in _OPCODES else f"opcode {opcode:#x}"
    return f"{name} is not among the commands that a guest may pass"


def _words(record: Command) -> Words:
    low, high = record.words
    return low, high


def issue(
    commands: Sequence[Words], vmid: int, stream_of: Callable[[int], int | None], submit: Callable[[tuple[Words, ...]], None],
    check: FieldCheck | None = None,
) -> int:  # fmt: skip
    """Convert and submit in batches of 63, each closed by a CMD_SYNC; answers how many commands went.

    ``KernelError`` where one may not pass, with ``done`` as the kernel writes it to entry_num: every command before the bad one, also those
    of the open batch, which were converted but not submitted.
    """
    batch: list[Words] = []
    for done, words in enumerate(commands):
        try:
            batch.append(convert(words, vmid, stream_of, check))
        except KernelError as error:
            raise KernelError(error.errno, error.where, error.why, done=done) from None
        if len(batch) == BATCH:
            submit(tuple(batch))
            batch = []
    if batch:
        submit(tuple(batch))
    return len(commands)


@lru_cache(maxsize=4096)
def encode(op: Op, **fields: int) -> Words:
    """A command from named fields, as two 64-bit words."""
    return _words(command.build(op, **fields))
