"""A guest's stream table entry on its way to the hardware: arm_smmu_validate_vste() and arm_smmu_make_nested_domain_ste().

What passes is a list of fields (STRTAB_STE_0_NESTING_ALLOWED, STRTAB_STE_1_NESTING_ALLOWED); everything else of the installed entry is the
kernel's, stage 2 above all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from wizard.arch.bits import Field
from wizard.arch.ste import STE, StreamConfig
from wizard.nesting.errors import KernelError

ALLOWED_FIELDS: tuple[tuple[str, ...], tuple[str, ...]] = (
    ("V", "Config", "S1Fmt", "S1ContextPtr", "S1CDMax"),
    ("S1DSS", "S1CIR", "S1COR", "S1CSH", "S1STALLD", "EATS"),
)
"""STE fields that userspace may set, of 64-bit words 0 and 1."""

ADDRESS_BITS = 52
"""Linux takes S1ContextPtr to bit 51 (STRTAB_STE_0_S1CTXPTR_MASK); IHI 0070 5.2 has it to bit 55, for 56 bits of OAS."""

_WORD = (1 << 64) - 1
_INSTALLED = tuple(name for names in ALLOWED_FIELDS for name in names if name not in ("Config", "EATS"))


def _mask(names: tuple[str, ...], word: int) -> int:
    fields: list[Field] = [STE.layout[name] for name in names]
    return sum(f.mask << f.lo for f in fields) >> (64 * word) & _WORD


VMM_MASKS = (_mask(ALLOWED_FIELDS[0], 0), _mask(ALLOWED_FIELDS[1], 1))
"""The whole fields as masks over words 0 and 1: what QEMU passes (STE0_MASK, STE1_MASK), EATS too whatever the vSMMU's ``ats`` says."""

ALLOWED = (VMM_MASKS[0] & ~(_WORD >> ADDRESS_BITS << ADDRESS_BITS & _mask(("S1ContextPtr",), 0)), VMM_MASKS[1])
"""What the kernel lets through: the same without the address bits that it does not know."""

ATS_REFUSED, ATS_FULL = 0, 1


@dataclass(frozen=True, slots=True)
class Vste:
    """A validated guest STE: ``ste`` holds allowed fields only, EATS taken out into ``ats``."""

    ste: STE
    ats: bool

    @property
    def config(self) -> StreamConfig:
        """What the kernel installs; an entry with V 0 aborts."""
        return StreamConfig(self.ste.Config) if self.ste.V else StreamConfig.ABORT


def validate(words: tuple[int, int]) -> Vste:
    """The guest's words 0 and 1 as the kernel takes them; ``KernelError`` EIO for what it does not let through."""
    ste = STE.of_words(words)
    if not ste.V:
        return Vste(STE(0), ats=False)
    where = "arm_smmu_validate_vste()"
    for number, (word, allowed) in enumerate(zip(words, ALLOWED, strict=True)):
        if stray := word & ~allowed:
            raise KernelError("EIO", where, f"bits {stray:#x} of word {number} are not a guest's to set")
    if ste.Config not in (StreamConfig.ABORT, StreamConfig.BYPASS, StreamConfig.STAGE1):
        raise KernelError("EIO", where, f"Config {ste.Config} is neither abort, bypass nor stage 1")
    if ste.EATS not in (ATS_REFUSED, ATS_FULL):
        raise KernelError("EIO", where, f"EATS {ste.EATS} is neither refused nor full ATS")
    return Vste(ste.replace(EATS=0), ats=ste.Config == StreamConfig.STAGE1 and ste.EATS == ATS_FULL)


def physical(vste: Vste, stage2: STE, *, ats: bool) -> STE:
    """The entry that the kernel installs. ``stage2`` is that of the parent HWPT, ``ats`` whether ATS is on at the device."""
    return _physical(vste.ste.value, stage2.value, ats)


@lru_cache(maxsize=1024)
def _physical(guests: int, stage2: int, ats: bool) -> STE:
    """By numbers, which are faster to look up than records; whether the guest asks for ATS says nothing here."""
    config = Vste(STE(guests), ats=False).config
    if config is StreamConfig.ABORT:
        return STE.build(V=1, Config=StreamConfig.ABORT)
    base = STE(stage2).replace(EATS=ATS_FULL if ats else ATS_REFUSED)
    if config is StreamConfig.BYPASS:
        return base
    # MEV: "Merge events for DoS mitigations on eventq".
    passed = {name: STE.layout[name].get(guests) for name in _INSTALLED}
    return base.replace(Config=StreamConfig.NESTED, MEV=1, **passed)
