"""What an SMMU is, as far as the model goes: its ID registers and the features read out of them.

``Ids`` holds the words as a host or a case gives them; ``Features`` what the model makes of them after masking what it does not model
(``wizard.smmu.support``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from wizard.arch.idr import ADDRESS_BITS, AIDR, IDR0, IDR1, IDR3, IDR5
from wizard.arch.registers import CR0, CR2


@dataclass(frozen=True)
class Ids:
    """ID register words. The defaults are those of QEMU 11's ``arm-smmuv3`` with both stages."""

    idr0: int = 0x0D44_101B
    idr1: int = 0x0273_0010
    idr3: int = 0x1414
    idr5: int = 0x74
    aidr: int = 1

    @classmethod
    def everything(cls) -> Ids:
        """An SMMU that has all that is modelled: SMMUv3.2, both stages and EL2, ATS and PRI, stalls, MSIs, hardware update, 48 bits.

        16 StreamID bits and 8 SubstreamID bits, queues of up to 2^10 entries.
        """
        return cls(
            idr0=IDR0.build(
                S1P=1, S2P=1, TTF=2, HTTU=2, HYP=1, ATS=1, ASID16=1, MSI=1, PRI=1, VMW=1, VMID16=1, CD2L=1, TTENDIAN=2, ATSRECERR=1, ST_LEVEL=1,
            ).value,
            idr1=IDR1.build(SIDSIZE=16, SSIDSIZE=8, PRIQS=10, EVENTQS=10, CMDQS=10, ATTR_PERMS_OVR=1, ATTR_TYPES_OVR=1).value,
            idr3=IDR3.build(HAD=1, XNX=1, FWB=1, STT=1, RIL=1, E0PD=1, EPAN=1).value,
            idr5=IDR5.build(OAS=5, GRAN4K=1, GRAN16K=1, GRAN64K=1, STALL_MAX=64).value,
            aidr=AIDR.build(ArchMinorRev=2).value,
        )  # fmt: skip

    @cached_property
    def features(self) -> Features:
        """The words decoded, as the model uses them."""
        return Features.of(self)


@dataclass(frozen=True, slots=True)
class Features:
    """Decoded once, for the model's own use; sizes in bits."""

    s1p: bool
    s2p: bool
    aa64: bool
    httu: int
    hyp: bool
    ats: bool
    ns1ats: bool
    pri: bool
    asid16: bool
    vmid16: bool
    vmw: bool
    cd2l: bool
    msi: bool
    little: bool
    big: bool
    stall_model: int
    term_model: bool
    st_level: bool
    sidsize: int
    ssidsize: int
    cmdqs: int
    eventqs: int
    priqs: int
    perms_ovr: bool
    types_ovr: bool
    had: bool
    xnx: bool
    fwb: bool
    stt: bool
    ril: bool
    e0pd: bool
    ptwnnc: bool
    epan: bool
    pps: bool
    record_ats: bool
    oas: int
    granules: frozenset[int]
    vax52: bool
    stall_max: int
    version: int

    @property
    def ias(self) -> int:
        """Intermediate address size: VMSAv8-32 is not modelled, so it is OAS (IHI 0070 3.4)."""
        return self.oas

    def usable_cr0(self, written: CR0) -> CR0:
        """CR0 without the fields that are RES0 on this SMMU, as CR0ACK reads (6.3.9)."""
        fields = {name: written.fields()[name] for name in ("SMMUEN", "EVENTQEN", "CMDQEN")}
        fields |= {"PRIQEN": written.PRIQEN} if self.pri else {}
        fields |= {"ATSCHK": written.ATSCHK} if self.ats else {}
        fields |= {"VMW": written.VMW} if self.vmw else {}
        return CR0.build(**fields)

    def usable_cr2(self, written: CR2) -> CR2:
        """CR2 without the fields that are RES0 on this SMMU (6.3.12)."""
        kept = written if self.hyp else written.replace(E2H=0)
        return kept if self.record_ats else kept.replace(REC_CFG_ATS=0)

    @classmethod
    def of(cls, ids: Ids) -> Features:
        """Decode ``ids``."""
        idr0, idr1, idr3, idr5, aidr = IDR0(ids.idr0), IDR1(ids.idr1), IDR3(ids.idr3), IDR5(ids.idr5), AIDR(ids.aidr)
        granules = {12 * idr5.GRAN4K, 14 * idr5.GRAN16K, 16 * idr5.GRAN64K} - {0}
        oas = ADDRESS_BITS[idr5.OAS]
        return cls(
            s1p=bool(idr0.S1P),
            s2p=bool(idr0.S2P),
            aa64=idr0.TTF in (2, 3),
            httu=idr0.HTTU,
            hyp=bool(idr0.HYP and idr0.S1P and idr0.S2P),
            ats=bool(idr0.ATS),
            ns1ats=bool(idr0.NS1ATS),
            pri=bool(idr0.ATS and idr0.PRI),
            asid16=bool(idr0.ASID16),
            vmid16=bool(idr0.VMID16),
            vmw=bool(idr0.VMW and idr0.S2P),
            cd2l=bool(idr0.CD2L),
            msi=bool(idr0.MSI),
            little=idr0.TTENDIAN != 3,
            big=idr0.TTENDIAN in (0, 3),
            stall_model=idr0.STALL_MODEL,
            term_model=bool(idr0.TERM_MODEL),
            st_level=bool(idr0.ST_LEVEL),
            sidsize=min(idr1.SIDSIZE, 32),
            ssidsize=min(idr1.SSIDSIZE, 20),
            cmdqs=min(idr1.CMDQS, 19),
            eventqs=min(idr1.EVENTQS, 19),
            priqs=min(idr1.PRIQS, 19),
            perms_ovr=bool(idr1.ATTR_PERMS_OVR),
            types_ovr=bool(idr1.ATTR_TYPES_OVR),
            had=bool(idr3.HAD),
            xnx=bool(idr3.XNX),
            fwb=bool(idr3.FWB),
            stt=bool(idr3.STT),
            ril=bool(idr3.RIL),
            e0pd=bool(idr3.E0PD),
            ptwnnc=bool(idr3.PTWNNC),
            epan=bool(idr3.EPAN),
            pps=bool(idr3.PPS),
            record_ats=bool(idr0.ATSRECERR),
            oas=min(oas, 52),
            granules=frozenset(granules),
            vax52=idr5.VAX >= 1,
            stall_max=idr5.STALL_MAX,
            version=aidr.ArchMinorRev,
        )
