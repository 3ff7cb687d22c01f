"""Commands of the SMMUv3.2 command queue: IHI 0070, chapter 4. Each is 128 bits: two little-endian 64-bit words."""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

from wizard.arch.bits import Record, address, field

COMMAND_BYTES = 16


class Op(IntEnum):
    """Command opcodes, IHI 0070 4.1.1."""

    PREFETCH_CONFIG = 0x01
    PREFETCH_ADDR = 0x02
    CFGI_STE = 0x03
    CFGI_STE_RANGE = 0x04
    CFGI_CD = 0x05
    CFGI_CD_ALL = 0x06
    CFGI_VMS_PIDM = 0x07
    TLBI_NH_ALL = 0x10
    TLBI_NH_ASID = 0x11
    TLBI_NH_VA = 0x12
    TLBI_NH_VAA = 0x13
    TLBI_EL3_ALL = 0x18
    TLBI_EL3_VA = 0x1A
    TLBI_EL2_ALL = 0x20
    TLBI_EL2_ASID = 0x21
    TLBI_EL2_VA = 0x22
    TLBI_EL2_VAA = 0x23
    TLBI_S12_VMALL = 0x28
    TLBI_S2_IPA = 0x2A
    TLBI_NSNH_ALL = 0x30
    ATC_INV = 0x40
    PRI_RESP = 0x41
    RESUME = 0x44
    STALL_TERM = 0x45
    SYNC = 0x46


class CommandError(IntEnum):
    """CMDQ_CONS.ERR, IHI 0070 7.1."""

    CERROR_NONE = 0
    CERROR_ILL = 1
    CERROR_ABT = 2
    CERROR_ATC_INV_SYNC = 3


class Command(Record, bits=128):
    """What every command has."""

    Opcode = field(7, 0, "opcode", codes={op.value: f"CMD_{op.name}" for op in Op})


class StreamCommand(Command, bits=128):
    """A command that names a stream and, with some opcodes, a substream."""

    SSec = field(10, doc="the StreamID is Secure")
    SSV = field(11, doc="SubstreamID is valid")
    SubstreamID = field(31, 12, "SubstreamID (PASID)")
    StreamID = field(63, 32, "StreamID")


class Prefetch(StreamCommand, bits=128):
    """CMD_PREFETCH_CONFIG and CMD_PREFETCH_ADDR, IHI 0070 4.2."""

    Size = field(68, 64, "2^Size granules")
    Stride = field(73, 69, "stride")
    Address = address(127, 76, "first address")


class CfgiSte(StreamCommand, bits=128):
    """CMD_CFGI_STE, IHI 0070 4.3.1."""

    Leaf = field(64, doc="level 1 descriptors may stay cached")


class CfgiSteRange(StreamCommand, bits=128):
    """CMD_CFGI_STE_RANGE and, with Range 31, CMD_CFGI_ALL: IHI 0070 4.3.2, 4.3.6."""

    Range = field(68, 64, "2^(Range+1) StreamIDs")


class CfgiCd(StreamCommand, bits=128):
    """CMD_CFGI_CD and CMD_CFGI_CD_ALL, IHI 0070 4.3.3, 4.3.4."""

    Leaf = field(64, doc="level 1 descriptors may stay cached")


class Tlbi(Command, bits=128):
    """Every CMD_TLBI_*, IHI 0070 4.4; which fields count depends on the opcode."""

    NUM = field(16, 12, "range: NUM + 1 times 2^SCALE granules")
    SCALE = field(25, 20, "range scale")
    VMID = field(47, 32, "VMID")
    ASID = field(63, 48, "ASID")
    Leaf = field(64, doc="table descriptors may stay cached")
    TTL128 = field(71, doc="TTL is of a 128-bit table")
    TTL = field(73, 72, "level of the leaf entry")
    TG = field(75, 74, "granule", codes={0: "any", 1: "4 KiB", 2: "16 KiB", 3: "64 KiB"})
    Address = address(127, 76, "virtual or intermediate physical address")


TLBI_GRANULES = {1: 12, 2: 14, 3: 16}
"""log2 of the granule in bytes of a TLBI command's TG."""


class AtcInv(StreamCommand, bits=128):
    """CMD_ATC_INV, IHI 0070 4.5.1."""

    Global = field(9, doc="all PASIDs")
    Size = field(69, 64, "2^Size pages of 4 KiB; 52 is everything")
    Address = address(127, 76, "address")


class PriResp(StreamCommand, bits=128):
    """CMD_PRI_RESP, IHI 0070 4.5.2."""

    PRGIndex = field(72, 64, "page request group")
    Resp = field(77, 76, "response", codes={0: "failure", 1: "invalid request", 2: "success"})


class Resume(Command, bits=128):
    """CMD_RESUME and CMD_STALL_TERM, IHI 0070 4.7.1, 4.7.2."""

    SSec = field(10, doc="the StreamID is Secure")
    Action = field(12, doc="what becomes of the transaction", codes={0: "terminate", 1: "retry"})
    Abort = field(13, doc="terminated with an abort, else RAZ/WI")
    StreamID = field(63, 32, "StreamID")
    STAG = field(79, 64, "stall tag of the event record")


class Sync(Command, bits=128):
    """CMD_SYNC, IHI 0070 4.7.3."""

    CS = field(13, 12, "completion signal", codes={0: "none", 1: "interrupt", 2: "event"})
    MSH = field(23, 22, "shareability of the MSI write")
    MSIAttr = field(27, 24, "attributes of the MSI write")
    MSIData = field(63, 32, "MSI payload")
    MSIAddress = address(119, 66, "MSI address; 0 sends none")


FORMATS: dict[Op, type[Command]] = {
    Op.PREFETCH_CONFIG: Prefetch,
    Op.PREFETCH_ADDR: Prefetch,
    Op.CFGI_STE: CfgiSte,
    Op.CFGI_STE_RANGE: CfgiSteRange,
    Op.CFGI_CD: CfgiCd,
    Op.CFGI_CD_ALL: CfgiCd,
    Op.CFGI_VMS_PIDM: Tlbi,
    **{op: Tlbi for op in Op if op.name.startswith("TLBI_")},
    Op.ATC_INV: AtcInv,
    Op.PRI_RESP: PriResp,
    Op.RESUME: Resume,
    Op.STALL_TERM: Resume,
    Op.SYNC: Sync,
}
"""The layout of each opcode."""


_OPCODES = frozenset(Op)


@lru_cache(maxsize=4096)
def decode(dword0: int, dword1: int) -> Command:
    """The command in two 64-bit words, in its own layout; a plain ``Command`` for a reserved opcode."""
    plain = Command.of_words((dword0, dword1))
    if plain.Opcode not in _OPCODES:
        return plain
    return FORMATS[Op(plain.Opcode)](plain.value)


def build(op: Op, **fields: int) -> Command:
    """A command from named fields; ``ValueError`` for a field that the opcode does not have or a value that does not fit."""
    return FORMATS[op].build(Opcode=op.value, **fields)
