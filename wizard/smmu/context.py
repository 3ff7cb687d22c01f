"""A stream's configuration, worked out: what a walk needs of an STE and a CD. IHI 0070, sections 3.3, 5.2, 5.4."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from wizard.arch.cd import CD, GRANULES0, GRANULES1
from wizard.arch.descriptor import Stage1Leaf, Stage2Leaf
from wizard.arch.ste import GRANULES, STE, StreamConfig
from wizard.smmu import permissions
from wizard.smmu.attributes import Override, is_device, share_of
from wizard.smmu.ids import Features
from wizard.smmu.permissions import HIERARCHICAL_BITS, STAGE1_BITS, STAGE2_BITS
from wizard.smmu.regime import Regime, make, stage1_start, stage2_start
from wizard.smmu.validity import World, effective_size

GLOBAL, GLOBAL_SHARED = -1, -2
"""Stand for the ASID of entries that match every ASID: of contexts with CD.ASET 1, and with ASET 0, which never match each other's
(IHI 0070 3.17.1). Regimes without ASIDs and stage 2 have the first only."""

Space = tuple[str, int, int]
"""What tags a cached translation: kind (``EL1``, ``EL2``, ``E2H`` or ``IPA``), VMID, ASID."""


LEAF1_BITS = STAGE1_BITS | permissions.bits(Stage1Leaf.AttrIndx, Stage1Leaf.SH, Stage1Leaf.AF, Stage1Leaf.nG, Stage1Leaf.Contiguous)
LEAF2_BITS = STAGE2_BITS | permissions.bits(Stage2Leaf.MemAttr, Stage2Leaf.SH, Stage2Leaf.AF, Stage2Leaf.Contiguous)
"""All of a leaf but its address that decides anything."""
MOST = 4096
"""Leaves that a stage keeps: tables of a guest gone mad have more kinds than anybody's."""


@dataclass(frozen=True, slots=True)
class Half:
    """One of the two tables of a context descriptor; ``regime`` None is EPDx=1."""

    regime: Regime | None
    tbi: bool
    had: bool
    e0pd: bool
    upper: bool


class Leaf(Struct, frozen=True, gc=False):
    """What a stage makes of a leaf's attributes: its own bits and those of the tables above it.

    ``clean`` says that a write still has to update the dirty state, ``accessed`` that the access flag does not stand in the way, ``device`` that
    stage 2 makes it Device memory. ``stage1`` is (MAIR byte, SH) and ``stage2`` (MemAttr, SH, S2FWB) of a leaf of that stage.
    """

    allowed: int
    clean: bool
    accessed: bool
    contiguous: bool
    globally: bool = False
    device: bool = False
    stage1: tuple[int, int] | None = None
    stage2: tuple[int, int, bool] | None = None


@dataclass(frozen=True, slots=True)
class Stage1:
    """Stage 1 of a context."""

    lower: Half
    upper: Half | None
    el2: bool
    affd: bool
    ha: bool
    hd: bool
    wxn: bool
    pan: bool
    epan: bool
    mair: int
    swap: bool
    record: bool
    abort: bool
    stall: bool
    space: Space
    global_space: Space
    leaves: dict[int, Leaf] = field(init=False, repr=False, compare=False, default_factory=dict)

    def leaf(self, code: int) -> Leaf:
        """What a leaf means: ``code`` is its descriptor's ``LEAF1_BITS`` and the ``HIERARCHICAL_BITS`` of those above it, which are others."""
        allowed, clean = permissions.stage1(code & STAGE1_BITS, code & HIERARCHICAL_BITS, self.el2, self.wxn, self.pan, self.epan, self.hd)
        leaf = Leaf(
            allowed, clean, accessed=bool(Stage1Leaf.AF.get(code)) or self.ha or self.affd, contiguous=bool(Stage1Leaf.Contiguous.get(code)),
            globally=not Stage1Leaf.nG.get(code),
            stage1=(self.mair >> (Stage1Leaf.AttrIndx.get(code) << 3) & 0xFF, Stage1Leaf.SH.get(code)),
        )  # fmt: skip
        return _kept(self.leaves, code, leaf)


@dataclass(frozen=True, slots=True)
class Stage2:
    """Stage 2 of a context."""

    regime: Regime
    affd: bool
    ha: bool
    hd: bool
    fwb: bool
    ptw: bool
    xnx: bool
    record: bool
    stall: bool
    space: Space
    leaves: dict[int, Leaf] = field(init=False, repr=False, compare=False, default_factory=dict)

    def leaf(self, code: int) -> Leaf:
        """What a leaf means: ``code`` is its descriptor's ``LEAF2_BITS``."""
        allowed, clean = permissions.stage2(code & STAGE2_BITS, self.xnx, self.hd)
        memattr = Stage2Leaf.MemAttr.get(code)
        leaf = Leaf(
            allowed, clean, accessed=bool(Stage2Leaf.AF.get(code)) or self.ha or self.affd, contiguous=bool(Stage2Leaf.Contiguous.get(code)),
            device=is_device(memattr, self.fwb), stage2=(memattr, Stage2Leaf.SH.get(code), self.fwb),
        )  # fmt: skip
        return _kept(self.leaves, code, leaf)


def _kept(leaves: dict[int, Leaf], code: int, leaf: Leaf) -> Leaf:
    if len(leaves) >= MOST:
        leaves.clear()
    leaves[code] = leaf
    return leaf


@dataclass(frozen=True, slots=True)
class Context:
    """All that a transaction of one stream and substream meets after configuration lookup."""

    ste: STE
    cd: CD | None
    stage1: Stage1 | None
    stage2: Stage2 | None
    override: Override
    privileged: bool | None
    instruction: bool | None
    plan: Any = field(init=False, repr=False, compare=False, default=None)

    @property
    def bypass(self) -> bool:
        """Whether no stage translates."""
        return self.stage1 is None and self.stage2 is None


def override_of(mtcfg: int, memattr: int, shcfg: int, features: Features) -> Override:
    """The incoming attributes' override of an STE or of GBPA; nothing where IDR1.ATTR_TYPES_OVR is 0."""
    if not features.types_ovr:
        return Override()
    return Override(memattr if mtcfg else None, share_of(shcfg) if shcfg != 1 else None)


def choice(code: int, features: Features) -> bool | None:
    """STE.PRIVCFG or INSTCFG: True, False, or None for the incoming value."""
    return {2: False, 3: True}.get(code) if features.perms_ovr else None


def stage2_of(ste: STE, features: Features) -> Stage2:
    """Stage 2 of a legal STE with Config 0b11x."""
    granule, bits = GRANULES[ste.S2TG], 64 - ste.S2T0SZ
    start = stage2_start(granule, ste.S2SL0, bits, features.oas, features.stt)
    if start is None:
        raise ValueError("stage 2 of an ILLEGAL stream table entry")
    regime = make(granule, start, bits, effective_size(ste.S2PS, features), ste.S2TTB, wide=features.oas > 48, swap=bool(ste.S2ENDI))
    return Stage2(
        regime=regime,
        affd=bool(ste.S2AFFD),
        ha=bool(ste.S2HA),
        hd=bool(ste.S2HA and ste.S2HD),
        fwb=bool(features.fwb and ste.S2FWB),
        ptw=bool(ste.S2PTW),
        xnx=features.xnx,
        record=bool(ste.S2R),
        stall=bool(ste.S2S),
        space=("IPA", ste.S2VMID, GLOBAL),
    )


def stage1_of(cd: CD, ste: STE, stream_world: World, features: Features) -> Stage1:
    """Stage 1 of a legal CD reached through a legal STE."""
    el2 = stream_world is World.EL2
    e0pd0 = 0 if el2 else cd.E0PD0
    lower = _half(cd.T0SZ, GRANULES0.get(cd.TG0), cd.TTB0, bool(cd.EPD0) and not el2, cd.TBI0, cd.HAD0, e0pd0, cd, features, upper=False)
    upper = None
    if not el2:
        upper = _half(cd.T1SZ, GRANULES1.get(cd.TG1), cd.TTB1, bool(cd.EPD1), cd.TBI1, cd.HAD1, cd.E0PD1, cd, features, upper=True)
    vmid = ste.S2VMID if features.s2p and stream_world is World.EL1 else 0
    kind = stream_world.name
    return Stage1(
        lower=lower,
        upper=upper,
        el2=el2,
        affd=bool(cd.AFFD),
        ha=bool(cd.HA),
        hd=bool(cd.HA and cd.HD),
        wxn=bool(cd.WXN),
        pan=bool(cd.PAN) and not el2,
        epan=bool(features.epan and cd.EPAN),
        mair=cd.MAIR1 << 32 | cd.MAIR0,
        swap=bool(cd.ENDI),
        record=bool(cd.R),
        abort=bool(cd.A),
        stall=bool(cd.S),
        space=(kind, vmid, GLOBAL if el2 else cd.ASID),
        global_space=(kind, vmid, GLOBAL if el2 or cd.ASET else GLOBAL_SHARED),
    )


def _half(
    tsz: int, granule: int | None, base: int, disabled: bool, tbi: int, had: int, e0pd: int, cd: CD, features: Features, *, upper: bool
) -> Half:
    regime = None
    if not disabled:
        if granule is None:
            raise ValueError("stage 1 of an ILLEGAL context descriptor")
        bits = 64 - tsz
        size = effective_size(cd.IPS, features)
        regime = make(granule, stage1_start(granule, bits), bits, size, base, wide=features.oas > 48, swap=bool(cd.ENDI))
    return Half(regime, bool(tbi), bool(features.had and had), bool(features.e0pd and e0pd), upper)


def context_of(ste: STE, cd: CD | None, stream_world: World, features: Features, *, skip_stage1: bool) -> Context:
    """The context of a legal STE and, where stage 1 translates, a legal CD; ``skip_stage1`` is S1DSS bypassing stage 1."""
    return Context(
        ste=ste,
        cd=cd,
        stage1=stage1_of(cd, ste, stream_world, features) if cd is not None and not skip_stage1 else None,
        stage2=stage2_of(ste, features) if ste.Config in (StreamConfig.STAGE2, StreamConfig.NESTED) else None,
        override=override_of(ste.MTCFG, ste.MemAttr, ste.SHCFG, features),
        privileged=choice(ste.PRIVCFG, features),
        instruction=choice(ste.INSTCFG, features),
    )
