"""Registers that may be written only while something is off. IHI 0070 6.3, "Accessing" of each register.

SMMUv3.2 and later ignore other writes. Before, it is CONSTRAINED UNPREDICTABLE what becomes of them; this model takes them, as QEMU does.
"""

from __future__ import annotations

from wizard.arch.bits import Field
from wizard.arch.registers import CR0, GBPA, IRQ_CTRL

_BY_CR0: dict[Field, tuple[str, ...]] = {
    CR0.SMMUEN: ("CR2", "STRTAB_BASE", "STRTAB_BASE_CFG"),
    CR0.CMDQEN: ("CMDQ_BASE", "CMDQ_CONS"),
    CR0.EVENTQEN: ("EVENTQ_BASE", "EVENTQ_PROD"),
    CR0.PRIQEN: ("PRIQ_BASE", "PRIQ_PROD"),
}
_BY_IRQ_CTRL: dict[Field, tuple[str, ...]] = {
    IRQ_CTRL.GERROR_IRQEN: ("GERROR_IRQ_CFG0", "GERROR_IRQ_CFG1"),
    IRQ_CTRL.EVENTQ_IRQEN: ("EVENTQ_IRQ_CFG0", "EVENTQ_IRQ_CFG1"),
    IRQ_CTRL.PRIQ_IRQEN: ("PRIQ_IRQ_CFG0", "PRIQ_IRQ_CFG1"),
}
READ_ONLY = frozenset({"CR0ACK", "IRQ_CTRLACK", "GERROR"})


def ignored(name: str, value: int, *, version: int, cr0: int, irq_ctrl: int) -> bool:
    """Whether a write of ``value`` to the register has no effect, given CR0, IRQ_CTRL and AIDR's minor revision."""
    if name in READ_ONLY:
        return True
    if version < 2:
        return False
    if name == "GBPA":
        return not GBPA.Update.get(value)
    return any(enable.get(cr0) and name in names for enable, names in _BY_CR0.items()) or any(
        enable.get(irq_ctrl) and name in names for enable, names in _BY_IRQ_CTRL.items()
    )
