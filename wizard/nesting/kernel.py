"""The host's kernel: what it makes of an SMMU, and which release it is where releases differ."""

from __future__ import annotations

from dataclasses import dataclass

from wizard.base.release import COMMAND_FIELDS, reached


@dataclass(frozen=True, slots=True)
class Kernel:
    """What this kernel makes of one SMMU (its ARM_SMMU_FEAT_* and options), which may be less than the ID registers say.

    ``release`` is what uname says; "" where nobody read it.
    """

    nesting: bool = True
    s2fwb: bool = False
    force_sync: bool = False
    ats: bool = False
    cmdqv: bool = False
    page_size: int = 4096
    release: str = ""

    @property
    def checks_fields(self) -> bool | None:
        """Whether a guest's commands are checked field by field, as since Linux 7.3, or by opcode alone; None where the release does not say."""
        return reached(self.release, COMMAND_FIELDS)
