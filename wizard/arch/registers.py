"""The non-secure SMMUv3 registers that software programs: IHI 0070, sections 6.2 and 6.3."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from wizard.arch.bits import Record, address, field


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
    """SMMU_GERROR and SMMU_GERRORN, 6.3.18 and 6.3.19: an error is active while the two differ in its bit."""

    CMDQ_ERR = field(0, doc="command queue error")
    EVENTQ_ABT_ERR = field(2, doc="event queue write aborted")
    PRIQ_ABT_ERR = field(3, doc="PRI queue write aborted")
    MSI_CMDQ_ABT_ERR = field(4, doc="CMD_SYNC MSI aborted")
    MSI_EVENTQ_ABT_ERR = field(5, doc="event queue MSI aborted")
    MSI_PRIQ_ABT_ERR = field(6, doc="PRI queue MSI aborted")
    MSI_GERROR_ABT_ERR = field(7, doc="GERROR MSI aborted")
    SFM_ERR = field(8, doc="service failure mode")


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
    """SMMU_CMDQ_BASE, SMMU_EVENTQ_BASE, SMMU_PRIQ_BASE: 6.3.26, 6.3.29, 6.3.35."""

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


@dataclass(frozen=True, slots=True)
class Register:
    """One register: its byte offset from the start of page 0, its fields, and when software may write it.

    ``guard`` is the enable bit, as register and field, that has to be 0: SMMUv3.2 and later ignore writes while it is 1.
    """

    offset: int
    layout: type[Record]
    read_only: bool = False
    guard: tuple[str, str] | None = None


REGISTERS: dict[str, Register] = {
    "CR0": Register(0x20, CR0),
    "CR0ACK": Register(0x24, CR0, read_only=True),
    "CR1": Register(0x28, CR1),
    "CR2": Register(0x2C, CR2, guard=("CR0", "SMMUEN")),
    "GBPA": Register(0x44, GBPA),
    "IRQ_CTRL": Register(0x50, IRQ_CTRL),
    "IRQ_CTRLACK": Register(0x54, IRQ_CTRL, read_only=True),
    "GERROR": Register(0x60, GERROR, read_only=True),
    "GERRORN": Register(0x64, GERROR),
    "GERROR_IRQ_CFG0": Register(0x68, IrqCfg0, guard=("IRQ_CTRL", "GERROR_IRQEN")),
    "GERROR_IRQ_CFG1": Register(0x70, IrqCfg1, guard=("IRQ_CTRL", "GERROR_IRQEN")),
    "STRTAB_BASE": Register(0x80, StrtabBase, guard=("CR0", "SMMUEN")),
    "STRTAB_BASE_CFG": Register(0x88, StrtabBaseCfg, guard=("CR0", "SMMUEN")),
    "CMDQ_BASE": Register(0x90, QueueBase, guard=("CR0", "CMDQEN")),
    "CMDQ_PROD": Register(0x98, QueueProd),
    "CMDQ_CONS": Register(0x9C, CmdqCons, guard=("CR0", "CMDQEN")),
    "EVENTQ_BASE": Register(0xA0, QueueBase, guard=("CR0", "EVENTQEN")),
    "EVENTQ_IRQ_CFG0": Register(0xB0, IrqCfg0, guard=("IRQ_CTRL", "EVENTQ_IRQEN")),
    "EVENTQ_IRQ_CFG1": Register(0xB8, IrqCfg1, guard=("IRQ_CTRL", "EVENTQ_IRQEN")),
    "PRIQ_BASE": Register(0xC0, QueueBase, guard=("CR0", "PRIQEN")),
    "PRIQ_IRQ_CFG0": Register(0xD0, IrqCfg0, guard=("IRQ_CTRL", "PRIQ_IRQEN")),
    "PRIQ_IRQ_CFG1": Register(0xD8, IrqCfg1, guard=("IRQ_CTRL", "PRIQ_IRQEN")),
    "EVENTQ_PROD": Register(0x100A8, QueueProd, guard=("CR0", "EVENTQEN")),
    "EVENTQ_CONS": Register(0x100AC, QueueCons),
    "PRIQ_PROD": Register(0x100C8, QueueProd, guard=("CR0", "PRIQEN")),
    "PRIQ_CONS": Register(0x100CC, QueueCons),
}
"""Every register by name without the SMMU_ prefix (IHI 0070 6.2)."""
