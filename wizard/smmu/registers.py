"""What software has written to the SMMU, and what of it counts: IHI 0070 6.2, 6.3.

``Registers`` holds values; what a write sets in motion is ``wizard.smmu.device``'s. The indices of the queues are the queues' own. A field
that is RES0 on this SMMU reads as it was written, as it may, and decides nothing; registers of features that the model does not have at all
(``wizard.arch.registers.ABSENT``) read as zero.
"""

from __future__ import annotations

from wizard.arch.registers import ABSENT, CR0, CR2, GBPA, REGISTERS, Register, StrtabBase, StrtabBaseCfg, register
from wizard.smmu.ids import Ids


class Registers:
    """Register values by name, and the few that decide every transaction already decoded, without what is RES0 on this SMMU."""

    __slots__ = ("cr0", "cr2", "features", "gbpa", "smmuen", "strtab_base", "strtab_base_cfg", "values")

    def __init__(self, ids: Ids, gbpa: int | None = None) -> None:
        self.features = ids.features
        words = {"IDR0": ids.idr0, "IDR1": ids.idr1, "IDR3": ids.idr3, "IDR5": ids.idr5, "AIDR": ids.aidr}
        if gbpa is not None:
            words["GBPA"] = GBPA(gbpa).replace(Update=0).value
        self.load({name: words.get(name, found.reset) for name, found in REGISTERS.items()})

    def load(self, values: dict[str, int]) -> None:
        """Take every value as it is, whatever closes the register: what a reset and a saved state do."""
        self.values = values
        self.cr0, self.cr2 = self.features.usable_cr0(CR0(values["CR0"])), self.features.usable_cr2(CR2(values["CR2"]))
        self.smmuen = bool(self.cr0.SMMUEN)
        self.gbpa = GBPA(values["GBPA"])
        self.strtab_base, self.strtab_base_cfg = StrtabBase(values["STRTAB_BASE"]), StrtabBaseCfg(values["STRTAB_BASE_CFG"])

    def __getitem__(self, name: str) -> int:
        return self.values[name] if name in self.values else ABSENT[name].reset

    def write(self, name: str, value: int) -> bool:
        """Store a value; answers whether the register took it. ``KeyError`` for no such register, ``ValueError`` for a value too wide."""
        found = register(name)
        found.layout(value)
        if name in ABSENT or not self.takes(name, found, value):
            return False
        self.values[name] = value
        if name == "CR0":
            self.cr0 = self.features.usable_cr0(CR0(value))
            self.smmuen = bool(self.cr0.SMMUEN)
            self.values["CR0ACK"] = self.cr0.value
        elif name == "CR2":
            self.cr2 = self.features.usable_cr2(CR2(value))
        elif name == "GBPA":
            self.gbpa = GBPA(GBPA.Update.put(value, 0))
            self.values[name] = self.gbpa.value
        elif name == "IRQ_CTRL":
            self.values["IRQ_CTRLACK"] = value
        elif name == "STRTAB_BASE":
            self.strtab_base = StrtabBase(value)
        elif name == "STRTAB_BASE_CFG":
            self.strtab_base_cfg = StrtabBaseCfg(value)
        return True

    def takes(self, name: str, found: Register, value: int) -> bool:
        """Whether a write has an effect now.

        SMMUv3.2 and later ignore writes to registers that are Guarded by an enable bit which is 1 (6.2, "Accessing" of each register), and to
        GBPA without Update (6.3.14). Before, it is CONSTRAINED UNPREDICTABLE what becomes of them; this model takes them, as QEMU does.
        """
        if found.read_only:
            return False
        if self.features.version < 2:
            return True
        if name == "GBPA":
            return bool(GBPA.Update.get(value))
        if found.guard is None:
            return True
        enable, field = found.guard
        return not REGISTERS[enable].layout.layout[field].get(self.values[enable])

    def reachable(self, address: int) -> int:
        """A physical address truncated to OAS, as queue and MSI addresses are (3.4.3)."""
        return address & (1 << self.features.oas) - 1
