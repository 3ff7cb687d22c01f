"""The registers of the non-secure SMMUv3 programming interface, one declaration each: IHI 0070, sections 6.2 and 6.3."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from wizard.arch.bits import Record, address, field
from wizard.arch.idr import AIDR, IDR0, IDR1, IDR2, IDR3, IDR4, IDR5, IDR6, IIDR


class TableFormat(IntEnum):
    """STRTAB_BASE_CFG.FMT."""

    LINEAR = 0
    TWO_LEVEL = 1


class CR0(Record, bits=32):
    """SMMU_CR0 and SMMU_CR0ACK, 6.3.9 and 6.3.10."""

    SMMUEN = field(0, doc="translation enabled")
    PRIQEN = field(1, doc="PRI queue enabled")
    EVENTQEN = field(2, doc="event queue enabled")
    CMDQEN = field(3, doc="command queue enabled")
    ATSCHK = field(4, doc="ATS translated traffic is checked against the STE")
    VMW = field(8, 6, "VMID wildcard")
    DPT_WALK_EN = field(10, doc="device permission table walks")


class CR1(Record, bits=32):
    """SMMU_CR1, 6.3.11: attributes of table and queue accesses."""

    QUEUE_IC = field(1, 0, "inner cacheability of queues")
    QUEUE_OC = field(3, 2, "outer cacheability of queues")
    QUEUE_SH = field(5, 4, "shareability of queues")
    TABLE_IC = field(7, 6, "inner cacheability of the stream table")
    TABLE_OC = field(9, 8, "outer cacheability of the stream table")
    TABLE_SH = field(11, 10, "shareability of the stream table")


class CR2(Record, bits=32):
    """SMMU_CR2, 6.3.12."""

    E2H = field(0, doc="EL2 streams are EL2-E2H")
    RECINVSID = field(1, doc="record C_BAD_STREAMID")
    PTM = field(2, doc="no part in broadcast TLB maintenance")
    REC_CFG_ATS = field(3, doc="record configuration errors of ATS traffic")


class GBPA(Record, bits=32):
    """SMMU_GBPA, 6.3.14: traffic while SMMUEN is 0."""

    MemAttr = field(3, 0, "memory attribute override")
    MTCFG = field(4, doc="MemAttr replaces the incoming type")
    ALLOCCFG = field(11, 8, "allocation hints")
    SHCFG = field(13, 12, "shareability", codes={0: "non-shareable", 1: "incoming", 2: "outer shareable", 3: "inner shareable"})
    PRIVCFG = field(17, 16, "privilege")
    INSTCFG = field(19, 18, "instruction or data")
    ABORT = field(20, doc="abort all traffic")
    Update = field(31, doc="an update is in progress")


class IRQ_CTRL(Record, bits=32):
    """SMMU_IRQ_CTRL, 6.3.16."""

    GERROR_IRQEN = field(0, doc="GERROR interrupt")
    PRIQ_IRQEN = field(1, doc="PRI queue interrupt")
    EVENTQ_IRQEN = field(2, doc="event queue interrupt")


class GERROR(Record, bits=32):
    """SMMU_GERROR and SMMU_GERRORN, 6.3.19 and 6.3.20: an error is active while the two differ in its bit."""

    CMDQ_ERR = field(0, doc="command queue error")
    EVENTQ_ABT_ERR = field(2, doc="event queue write aborted")
    PRIQ_ABT_ERR = field(3, doc="PRI queue write aborted")
    MSI_CMDQ_ABT_ERR = field(4, doc="CMD_SYNC MSI aborted")
    MSI_EVENTQ_ABT_ERR = field(5, doc="event queue MSI aborted")
    MSI_PRIQ_ABT_ERR = field(6, doc="PRI queue MSI aborted")
    MSI_GERROR_ABT_ERR = field(7, doc="GERROR MSI aborted")
    SFM_ERR = field(8, doc="service failure mode")
    CMDQP_ERR = field(9, doc="error of an enhanced command queue")
    DPT_ERR = field(10, doc="device permission table lookup error")


class IrqCfg0(Record, bits=64):
    """SMMU_*_IRQ_CFG0: where an MSI is written; 0 sends none."""

    ADDR = address(55, 2, "MSI address")


class IrqCfg1(Record, bits=32):
    """SMMU_*_IRQ_CFG1: what the MSI says."""

    DATA = field(31, 0, doc="MSI payload")


class StrtabBase(Record, bits=64):
    """SMMU_STRTAB_BASE, 6.3.24."""

    ADDR = address(55, 6, "stream table")
    RA = field(62, doc="read-allocate hint")


class StrtabBaseCfg(Record, bits=32):
    """SMMU_STRTAB_BASE_CFG, 6.3.25."""

    LOG2SIZE = field(5, 0, "log2 of the entries")
    SPLIT = field(10, 6, "StreamID bits of level 2")
    FMT = field(17, 16, "format", codes={0: "linear", 1: "two-level"})


class QueueBase(Record, bits=64):
    """SMMU_CMDQ_BASE, SMMU_EVENTQ_BASE, SMMU_PRIQ_BASE: 6.3.26, 6.3.29, 6.3.33."""

    LOG2SIZE = field(4, 0, "log2 of the entries")
    ADDR = address(55, 5, "queue")
    RA_WA = field(62, doc="allocation hint")


class CmdqCons(Record, bits=32):
    """SMMU_CMDQ_CONS, 6.3.28."""

    RD = field(19, 0, "read index, with the wrap bit above it")
    ERR = field(30, 24, "error", codes={0: "CERROR_NONE", 1: "CERROR_ILL", 2: "CERROR_ABT", 3: "CERROR_ATC_INV_SYNC"})


class QueueProd(Record, bits=32):
    """SMMU_CMDQ_PROD, SMMU_EVENTQ_PROD, SMMU_PRIQ_PROD."""

    WR = field(19, 0, "write index, with the wrap bit above it")
    OVFLG = field(31, doc="overflow flag; toggles")


class QueueCons(Record, bits=32):
    """SMMU_EVENTQ_CONS, SMMU_PRIQ_CONS."""

    RD = field(19, 0, "read index, with the wrap bit above it")
    OVACKFLG = field(31, doc="overflow acknowledged; toggles")


class Statusr(Record, bits=32):
    """SMMU_STATUSR, 6.3.13."""

    DORMANT = field(0, doc="nothing is cached and nothing prefetched")


class Agbpa(Record, bits=32):
    """SMMU_AGBPA, 6.3.15: more attributes of traffic while SMMUEN is 0."""

    IMPDEF = field(31, 0, "implementation defined")


class IrqCfg2(Record, bits=32):
    """SMMU_GERROR_IRQ_CFG2 and SMMU_EVENTQ_IRQ_CFG2, 6.3.23, 6.3.32: attributes of the MSI."""

    MemAttr = field(3, 0, "memory type, as STE.MemAttr")
    SH = field(5, 4, "shareability")


class PriqIrqCfg2(Record, bits=32):
    """SMMU_PRIQ_IRQ_CFG2, 6.3.36."""

    MemAttr = field(3, 0, "memory type, as STE.MemAttr")
    SH = field(5, 4, "shareability")
    LO = field(31, doc="interrupt for the last request of a group, instead of for the first one in an empty queue")


class Res0(Record, bits=32):
    """A register of a feature that the simulated SMMU does not have."""


class Res0Long(Record, bits=64):
    """The same, of 64 bits."""


@dataclass(frozen=True, slots=True)
class Register:
    """One register.

    ``offset`` is in bytes from the start of page 0 (page 1 begins at 0x10000), ``section`` that of IHI 0070. ``guard`` is the enable bit, as
    register and field, that has to be 0: SMMUv3.2 and later ignore writes while it is 1. ``reset`` is the value after a reset; what resets to
    an UNKNOWN value is 0 here.
    """

    offset: int
    layout: type[Record]
    section: str
    read_only: bool = False
    guard: tuple[str, str] | None = None
    reset: int = 0

    @property
    def size(self) -> int:
        """4 or 8 bytes."""
        return self.layout.bits // 8


_SMMUEN, _CMDQEN, _EVENTQEN, _PRIQEN = ("CR0", "SMMUEN"), ("CR0", "CMDQEN"), ("CR0", "EVENTQEN"), ("CR0", "PRIQEN")
_GERROR_IRQ, _EVENTQ_IRQ, _PRIQ_IRQ = ("IRQ_CTRL", "GERROR_IRQEN"), ("IRQ_CTRL", "EVENTQ_IRQEN"), ("IRQ_CTRL", "PRIQ_IRQEN")

REGISTERS: dict[str, Register] = {
    "IDR0": Register(0x00, IDR0, "6.3.1", read_only=True),
    "IDR1": Register(0x04, IDR1, "6.3.2", read_only=True),
    "IDR2": Register(0x08, IDR2, "6.3.3", read_only=True),
    "IDR3": Register(0x0C, IDR3, "6.3.4", read_only=True),
    "IDR4": Register(0x10, IDR4, "6.3.5", read_only=True),
    "IDR5": Register(0x14, IDR5, "6.3.6", read_only=True),
    "IIDR": Register(0x18, IIDR, "6.3.7", read_only=True),
    "AIDR": Register(0x1C, AIDR, "6.3.8", read_only=True),
    "CR0": Register(0x20, CR0, "6.3.9"),
    "CR0ACK": Register(0x24, CR0, "6.3.10", read_only=True),
    "CR1": Register(0x28, CR1, "6.3.11"),
    "CR2": Register(0x2C, CR2, "6.3.12", guard=_SMMUEN),
    "STATUSR": Register(0x40, Statusr, "6.3.13", read_only=True),
    "GBPA": Register(0x44, GBPA, "6.3.14", reset=1 << GBPA.SHCFG.lo),
    "AGBPA": Register(0x48, Agbpa, "6.3.15"),
    "IRQ_CTRL": Register(0x50, IRQ_CTRL, "6.3.16"),
    "IRQ_CTRLACK": Register(0x54, IRQ_CTRL, "6.3.18", read_only=True),
    "GERROR": Register(0x60, GERROR, "6.3.19", read_only=True),
    "GERRORN": Register(0x64, GERROR, "6.3.20"),
    "GERROR_IRQ_CFG0": Register(0x68, IrqCfg0, "6.3.21", guard=_GERROR_IRQ),
    "GERROR_IRQ_CFG1": Register(0x70, IrqCfg1, "6.3.22", guard=_GERROR_IRQ),
    "GERROR_IRQ_CFG2": Register(0x74, IrqCfg2, "6.3.23", guard=_GERROR_IRQ),
    "STRTAB_BASE": Register(0x80, StrtabBase, "6.3.24", guard=_SMMUEN),
    "STRTAB_BASE_CFG": Register(0x88, StrtabBaseCfg, "6.3.25", guard=_SMMUEN),
    "CMDQ_BASE": Register(0x90, QueueBase, "6.3.26", guard=_CMDQEN),
    "CMDQ_PROD": Register(0x98, QueueProd, "6.3.27"),
    "CMDQ_CONS": Register(0x9C, CmdqCons, "6.3.28", guard=_CMDQEN),
    "EVENTQ_BASE": Register(0xA0, QueueBase, "6.3.29", guard=_EVENTQEN),
    "EVENTQ_IRQ_CFG0": Register(0xB0, IrqCfg0, "6.3.30", guard=_EVENTQ_IRQ),
    "EVENTQ_IRQ_CFG1": Register(0xB8, IrqCfg1, "6.3.31", guard=_EVENTQ_IRQ),
    "EVENTQ_IRQ_CFG2": Register(0xBC, IrqCfg2, "6.3.32", guard=_EVENTQ_IRQ),
    "PRIQ_BASE": Register(0xC0, QueueBase, "6.3.33", guard=_PRIQEN),
    "PRIQ_IRQ_CFG0": Register(0xD0, IrqCfg0, "6.3.34", guard=_PRIQ_IRQ),
    "PRIQ_IRQ_CFG1": Register(0xD8, IrqCfg1, "6.3.35", guard=_PRIQ_IRQ),
    "PRIQ_IRQ_CFG2": Register(0xDC, PriqIrqCfg2, "6.3.36", guard=_PRIQ_IRQ),
    "EVENTQ_PROD": Register(0x100A8, QueueProd, "6.3.95", guard=_EVENTQEN),
    "EVENTQ_CONS": Register(0x100AC, QueueCons, "6.3.96"),
    "PRIQ_PROD": Register(0x100C8, QueueProd, "6.3.97", guard=_PRIQEN),
    "PRIQ_CONS": Register(0x100CC, QueueCons, "6.3.98"),
}
"""Every register of pages 0 and 1 that the simulated SMMU has, by name without the SMMU_ prefix (IHI 0070 6.2.1, 6.2.2)."""

ABSENT: dict[str, Register] = {
    # IDR3.S2PI: stage 2 permission indirection
    "S2PII": Register(0x30, Res0Long, "6.2.1"),
    # IDR0.ATOS and VATOS: address translation operations
    "GATOS_CTRL": Register(0x100, Res0, "6.3.37"),
    "GATOS_SID": Register(0x108, Res0Long, "6.3.38"),
    "GATOS_ADDR": Register(0x110, Res0Long, "6.3.39"),
    "GATOS_PAR": Register(0x118, Res0Long, "6.3.40"),
    "VATOS_SEL": Register(0x180, Res0, "6.3.44"),
    # IDR3.MPAM
    "MPAMIDR": Register(0x130, Res0, "6.3.41"),
    "GMPAM": Register(0x138, Res0, "6.3.42"),
    "GBPMPAM": Register(0x13C, Res0, "6.3.43"),
    # IDR1.ECMDQ: enhanced command queues
    "IDR6": Register(0x190, IDR6, "6.3.45", read_only=True),
    **{f"CMDQ_CONTROL_PAGE_BASE{n}": Register(0x4000 + 32 * n, Res0Long, "6.3.49") for n in range(256)},
    **{f"CMDQ_CONTROL_PAGE_CFG{n}": Register(0x4008 + 32 * n, Res0, "6.3.50") for n in range(256)},
    **{f"CMDQ_CONTROL_PAGE_STATUS{n}": Register(0x400C + 32 * n, Res0, "6.3.51") for n in range(256)},
    # IDR3.DPT: device permission table
    "DPT_BASE": Register(0x200, Res0Long, "6.3.46"),
    "DPT_BASE_CFG": Register(0x208, Res0, "6.3.47"),
    "DPT_CFG_FAR": Register(0x210, Res0Long, "6.3.48"),
    # S_IDR1.SECURE_IMPL: the secure programming interface, most of it as the other one 0x8000 further on
    "S_INIT": Register(0x803C, Res0, "6.2.1"),
    **{
        f"S_{name}": Register(0x8000 + (REGISTERS[name].offset & 0xFFFF), Res0Long if REGISTERS[name].size == 8 else Res0, "6.2.1")
        for name in (
            "IDR0", "IDR1", "IDR2", "IDR3", "IDR4", "CR0", "CR0ACK", "CR1", "CR2", "GBPA", "AGBPA", "IRQ_CTRL", "IRQ_CTRLACK", "GERROR", "GERRORN",
            "GERROR_IRQ_CFG0", "GERROR_IRQ_CFG1", "GERROR_IRQ_CFG2", "STRTAB_BASE", "STRTAB_BASE_CFG", "CMDQ_BASE", "CMDQ_PROD", "CMDQ_CONS",
            "EVENTQ_BASE", "EVENTQ_PROD", "EVENTQ_CONS", "EVENTQ_IRQ_CFG0", "EVENTQ_IRQ_CFG1", "EVENTQ_IRQ_CFG2",
        )
    },
    "S_S2PII": Register(0x8030, Res0Long, "6.2.1"),
    "S_GATOS_CTRL": Register(0x8100, Res0, "6.2.1"),
    "S_GATOS_SID": Register(0x8108, Res0Long, "6.2.1"),
    "S_GATOS_ADDR": Register(0x8110, Res0Long, "6.2.1"),
    "S_GATOS_PAR": Register(0x8118, Res0Long, "6.2.1"),
    "S_MPAMIDR": Register(0x8130, Res0, "6.2.1"),
    "S_GMPAM": Register(0x8138, Res0, "6.2.1"),
    "S_GBPMPAM": Register(0x813C, Res0, "6.2.1"),
    "S_VATOS_SEL": Register(0x8180, Res0, "6.2.1"),
    "S_IDR6": Register(0x8190, Res0, "6.2.1"),
    **{f"S_CMDQ_CONTROL_PAGE_BASE{n}": Register(0xC000 + 32 * n, Res0Long, "6.2.1") for n in range(256)},
    **{f"S_CMDQ_CONTROL_PAGE_CFG{n}": Register(0xC008 + 32 * n, Res0, "6.2.1") for n in range(256)},
    **{f"S_CMDQ_CONTROL_PAGE_STATUS{n}": Register(0xC00C + 32 * n, Res0, "6.2.1") for n in range(256)},
}  # fmt: skip
"""The registers of features that the simulated SMMU does not have: they read as zero and ignore writes (RES0)."""

PAGE_1 = 0x10000
"""Offset of page 1. The two pages are each other's aliases here, as they may be (6.2): what is in one is found in the other too."""


def at(offset: int) -> tuple[str, int] | None:
    """The register at an offset of either page and the byte in it, 0 or 4; None where there is none. ``offset`` is a multiple of 4."""
    return _AT.get(offset & ~PAGE_1)


def register(name: str) -> Register:
    """The register of a name without the SMMU_ prefix; ``KeyError`` for no such register."""
    return REGISTERS[name] if name in REGISTERS else ABSENT[name]


_AT = {
    (found.offset & ~PAGE_1) + byte: (name, byte)
    for table in (REGISTERS, ABSENT)
    for name, found in table.items()
    for byte in range(0, found.size, 4)
}
