"""The behaviours of an SMMUv3 that a test may have exercised: each with its section, its rule and what the model was held against.

Sections are those of Arm IHI 0070 unless DDI 0487 is named. *QEMU* are the recorded cases and random differential runs, *walker* the plain walker
beside them, *second walker* the one of tests/smmu/second; *pseudocode* and *specification*: expectations from the text alone.
``wizard.smmu.coverage`` observes them, docs/smmu-behaviours.md lists them with a case each.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BEHAVIOURS", "Behaviour"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One thing that an SMMU does: ``key`` is its stable name, the part before the first dot its group."""

    key: str
    section: str
    rule: str
    held: str


_TABLE = """
gbpa.pass | 3.11, 6.3.14 | SMMUEN is 0: the address goes out as it came | QEMU
gbpa.abort | 6.3.14 | SMMUEN is 0 and GBPA.ABORT is 1: everything is aborted | QEMU
gbpa.override | 6.3.14, 13.2 | SMMUEN is 0: GBPA overrides type or shareability | specification
gbpa.beyond | 3.4 | SMMUEN is 0 and the address is beyond OAS: aborted without a record | specification
strtab.linear | 3.3.1, 5.2 | an entry is found in a linear stream table | QEMU, walker
strtab.two-level | 3.3.1, 5.1 | an entry is found through a level 1 descriptor | QEMU, walker
strtab.beyond | 6.3.25, 7.3.3 | C_BAD_STREAMID: the StreamID is beyond the table | QEMU, walker
strtab.span | 5.1, 7.3.3 | C_BAD_STREAMID: the level 1 descriptor has no entry for the StreamID | walker; QEMU departs
strtab.fetch | 7.3.4 | F_STE_FETCH: nothing answers where the entry or its descriptor is | QEMU
strtab.recinvsid | 6.3.12 | CR2.RECINVSID is 0: C_BAD_STREAMID is not recorded | specification
ste.illegal | 5.2.2, 7.3.5 | C_BAD_STE | pseudocode, QEMU
ste.abort | 5.2 | Config 0b000: a silent abort | QEMU
ste.bypass | 5.2 | Config 0b100: nothing translates | QEMU
ste.bypass.beyond | 3.4, 7.3.14 | nothing translates and the address is beyond OAS: F_ADDR_SIZE | QEMU
ste.stage1 | 5.2 | Config 0b101: stage 1 alone | QEMU, walker
ste.stage2 | 5.2 | Config 0b110: stage 2 alone | QEMU, walker
ste.nested | 5.2 | Config 0b111: both stages | QEMU, walker
ste.privcfg | 5.2, 13.1.4 | PRIVCFG overrides the privilege | specification
ste.instcfg | 5.2, 13.1.4 | INSTCFG overrides instruction or data | specification
ste.mtcfg | 5.2, 13.1.4 | MTCFG or SHCFG overrides type or shareability | specification
world.el2 | 3.3.3 | a stream of StreamWorld EL2 translates | specification
world.e2h | 3.3.3, 6.3.12 | a stream of StreamWorld EL2-E2H translates | specification
cd.single | 5.2, 5.4 | S1CDMax 0: the one context descriptor | QEMU, walker
cd.linear | 5.2 (S1Fmt) | a context descriptor of a linear table of substreams | second walker
cd.two-level | 5.2 (S1Fmt), 5.3 | a context descriptor through a level 1 descriptor | second walker
cd.illegal | 5.4.2, 7.3.11 | C_BAD_CD | pseudocode, QEMU
cd.fetch | 7.3.10 | F_CD_FETCH | QEMU
cd.stage2 | 7.3.13 to 7.3.16 | stage 2 faults for the fetch of a context descriptor (CLASS CD) | QEMU, walker
cd.substream | 5.2, 7.3.9 | C_BAD_SUBSTREAMID | second walker
s1dss.terminate | 5.2 (S1DSS), 7.3.7 | F_STREAM_DISABLED: without SubstreamID, or with 0 where that is set aside | second walker
s1dss.bypass | 5.2 (S1DSS) | without SubstreamID stage 1 is passed by | second walker
s1dss.zero | 5.2 (S1DSS) | without SubstreamID context descriptor 0 is used | second walker
walk.stage1.granule12 | DDI 0487 D8.2 | a stage 1 walk with the 4 KiB granule | QEMU, walker
walk.stage1.granule14 | DDI 0487 D8.2 | a stage 1 walk with the 16 KiB granule | QEMU, walker
walk.stage1.granule16 | DDI 0487 D8.2 | a stage 1 walk with the 64 KiB granule | QEMU, walker
walk.stage1.start0 | DDI 0487 D8.2, D8.3 | a stage 1 walk from level 0 | QEMU, walker
walk.stage1.start1 | DDI 0487 D8.2, D8.3 | a stage 1 walk from level 1 | QEMU, walker
walk.stage1.start2 | DDI 0487 D8.2, D8.3 | a stage 1 walk from level 2 | QEMU, walker
walk.stage1.start3 | DDI 0487 D8.2, D8.3 | a stage 1 walk from level 3 | QEMU, walker
walk.stage1.block | DDI 0487 D8.3 | a block at stage 1 | QEMU, walker
walk.stage1.page | DDI 0487 D8.3 | a page at stage 1 | QEMU, walker
walk.stage1.contiguous | DDI 0487 D8.7.1 | the contiguous hint at stage 1 | QEMU for the walk
walk.stage1.table-cached | 3.17, 16.2 | a remembered table descriptor shortens a stage 1 walk | specification
walk.stage1.swapped | 3.4, 5.2, 5.4 | big-endian tables at stage 1 | specification
walk.stage2.granule12 | DDI 0487 D8.2 | a stage 2 walk with the 4 KiB granule | QEMU, walker
walk.stage2.granule14 | DDI 0487 D8.2 | a stage 2 walk with the 16 KiB granule | QEMU, walker
walk.stage2.granule16 | DDI 0487 D8.2 | a stage 2 walk with the 64 KiB granule | QEMU, walker
walk.stage2.start0 | DDI 0487 D8.2, D8.3 | a stage 2 walk from level 0 | QEMU, walker
walk.stage2.start1 | DDI 0487 D8.2, D8.3 | a stage 2 walk from level 1 | QEMU, walker
walk.stage2.start2 | DDI 0487 D8.2, D8.3 | a stage 2 walk from level 2 | QEMU, walker
walk.stage2.start3 | DDI 0487 D8.2, D8.3 | a stage 2 walk from level 3 | QEMU, walker
walk.stage2.block | DDI 0487 D8.3 | a block at stage 2 | QEMU, walker
walk.stage2.page | DDI 0487 D8.3 | a page at stage 2 | QEMU, walker
walk.stage2.contiguous | DDI 0487 D8.7.1 | the contiguous hint at stage 2 | QEMU for the walk
walk.stage2.table-cached | 3.17, 16.2 | a remembered table descriptor shortens a stage 2 walk | specification
walk.stage2.swapped | 3.4, 5.2, 5.4 | big-endian tables at stage 2 | specification
walk.stage2.concatenated | DDI 0487 D8.2.2 | concatenated tables at the first level of stage 2 | walker; QEMU departs
walk.nested | 3.3.2 | a stage 1 descriptor is fetched through stage 2 | QEMU, walker
walk.upper | 3.4.1, 5.4 | the upper half (TTB1) translates | QEMU, walker
walk.top-byte | 3.4.1 (TBI) | an address whose ignored top byte is not what it stands for translates | QEMU, walker
walk.disabled | 5.4 (EPD) | EPDx is 1: F_TRANSLATION without a walk | QEMU, walker
walk.e0pd | 5.4 (E0PD) | E0PDx is 1: an unprivileged access has F_TRANSLATION | specification
walk.outside | 3.4.1 | the address is in neither input range: F_TRANSLATION | QEMU, walker
walk.wide | 3.4, DDI 0487 D8.3 | an output address above 48 bits | specification
fault.stage1.translation | 7.3.13 | F_TRANSLATION at stage 1 | QEMU, walker
fault.stage1.addr-size | 7.3.14 | F_ADDR_SIZE at stage 1 | QEMU, walker
fault.stage1.access | 7.3.15 | F_ACCESS at stage 1 | QEMU, walker
fault.stage1.permission | 7.3.16 | F_PERMISSION at stage 1 | QEMU, walker
fault.stage1.walk-abort | 7.3.12 | F_WALK_EABT at stage 1 | QEMU, walker
fault.stage2.translation | 7.3.13 | F_TRANSLATION at stage 2 | QEMU, walker
fault.stage2.addr-size | 7.3.14 | F_ADDR_SIZE at stage 2 | QEMU, walker
fault.stage2.access | 7.3.15 | F_ACCESS at stage 2 | QEMU, walker
fault.stage2.permission | 7.3.16 | F_PERMISSION at stage 2 | QEMU, walker
fault.stage2.walk-abort | 7.3.12 | F_WALK_EABT at stage 2 | QEMU, walker
fault.input.addr-size | 3.4, 7.3.14 | stage 2 alone and the address is beyond IAS: F_ADDR_SIZE | QEMU, walker
fault.stage2.table | 7.3.13 to 7.3.16 | stage 2 faults for the fetch of a stage 1 descriptor (CLASS TTD) | QEMU, walker
fault.read | 7.3 (RnW) | a read faults in translation | QEMU
fault.write | 7.3 (RnW) | a write faults in translation | QEMU
fault.execute | DDI 0487 D8.4 (XN) | an instruction fetch is denied | specification
fault.privileged | 7.3 (PnU) | a privileged access is denied | specification
fault.unrecorded | 5.5 (CD.R, STE.S2R) | a translation fault is not recorded | specification
fault.razwi | 5.5 (CD.A) | a faulting access completes as RAZ/WI | specification
fault.stall | 3.12.2, 5.5 (CD.S, STE.S2S) | a fault stalls the access and is recorded with a tag | specification
fault.stall-waits | 3.12.2, 7.2.1 | a stall that cannot be recorded waits | specification
allow.read | DDI 0487 D8.4 | a read passes | QEMU, walker
allow.write | DDI 0487 D8.4 | a write passes | QEMU, walker
allow.execute | DDI 0487 D8.4 | an instruction fetch passes | second walker
allow.privileged | DDI 0487 D8.4 | a privileged access passes | second walker
deny.table | DDI 0487 D8.4 (APTable) | a table descriptor above takes a permission away | QEMU, walker
deny.wxn | 5.4 (WXN) | WXN denies execution of what can be written | second walker
deny.pan | 5.4 (PAN) | PAN denies a privileged access to what is user's | second walker
deny.stage2-device | 5.2 (S2PTW) | S2PTW: a table in Device memory | specification
httu.stage1.access | 3.13.2 | the access flag of a stage 1 leaf is set | second walker
httu.stage1.dirty | 3.13.3 | the dirty state of a stage 1 leaf is set | second walker
httu.stage2.access | 3.13.2 | the access flag of a stage 2 leaf is set | second walker
httu.stage2.dirty | 3.13.3 | the dirty state of a stage 2 leaf is set | second walker
httu.affd | 5.4 (AFFD), 5.2 (S2AFFD) | an access flag that is 0 does not count | QEMU, walker
attr.incoming | 13.1.3 | an access that says its type or shareability itself | specification
attr.device | 13.1.5, DDI 0487 D8.6 | a Device type goes out | specification
attr.non-cacheable | DDI 0487 D8.6 | a non-cacheable type goes out | specification
attr.combined | 13.1.5, DDI 0487 D8.6 | types of both stages are combined | second walker
attr.fwb | 5.2 (S2FWB), DDI 0487 D8.6 | S2FWB: stage 2 forces the type | second walker
cache.configuration | 3.21, 4.3 | a cached configuration is used | QEMU (sequences)
cache.tlb | 3.17 | a cached translation is used | QEMU (sequences)
cache.tlb-denies | 3.17 | a cached translation denies an access | specification
cache.stage2 | 3.17, 4.4.3 | a cached stage 2 entry is used for a table or an intermediate address | specification
cache.global | 3.17.1 | a global translation is used | specification
ats.granted | 3.9.1.2, 13.7 | a translation request is granted something | second walker
ats.denied | 3.9.1.2 | a translation request succeeds and grants nothing | second walker
ats.unsupported | 3.9.1.2, 7.3.6 | a translation request where ATS is not allowed: UR | second walker
ats.error | 3.9.1.2 | a translation request meets a configuration error: CA | second walker
ats.recorded | 6.3.12 (REC_CFG_ATS), 7.3.6 | a refused or failed translation request is recorded | specification
ats.translated | 3.9.1.3 | translated traffic passes | second walker
ats.forbidden | 3.9.1.3, 7.3.8 | F_TRANSL_FORBIDDEN | second walker
ats.split | 3.9.1.3, 13.6.3 | split-stage ATS: the answer is an intermediate address, which stage 2 translates | second walker
cmd.PREFETCH_CONFIG | 4.2.1 | CMD_PREFETCH_CONFIG is executed | specification
cmd.PREFETCH_ADDR | 4.2.2 | CMD_PREFETCH_ADDR is executed | specification
cmd.CFGI_STE | 4.3.1 | CMD_CFGI_STE is executed | QEMU (sequences)
cmd.CFGI_STE_RANGE | 4.3.2 | CMD_CFGI_STE_RANGE is executed | QEMU (sequences)
cmd.CFGI_CD | 4.3.3 | CMD_CFGI_CD is executed | QEMU (sequences)
cmd.CFGI_CD_ALL | 4.3.4 | CMD_CFGI_CD_ALL is executed | QEMU (sequences)
cmd.TLBI_NH_ALL | 4.4 | CMD_TLBI_NH_ALL is executed | QEMU (sequences)
cmd.TLBI_NH_ASID | 4.4 | CMD_TLBI_NH_ASID is executed | QEMU (sequences)
cmd.TLBI_NH_VA | 4.4 | CMD_TLBI_NH_VA is executed | QEMU (sequences)
cmd.TLBI_NH_VAA | 4.4 | CMD_TLBI_NH_VAA is executed | QEMU (sequences)
cmd.TLBI_EL2_ALL | 4.4 | CMD_TLBI_EL2_ALL is executed | specification
cmd.TLBI_EL2_ASID | 4.4 | CMD_TLBI_EL2_ASID is executed | specification
cmd.TLBI_EL2_VA | 4.4 | CMD_TLBI_EL2_VA is executed | specification
cmd.TLBI_EL2_VAA | 4.4 | CMD_TLBI_EL2_VAA is executed | specification
cmd.TLBI_S12_VMALL | 4.4 | CMD_TLBI_S12_VMALL is executed | QEMU (sequences)
cmd.TLBI_S2_IPA | 4.4 | CMD_TLBI_S2_IPA is executed | QEMU (sequences)
cmd.TLBI_NSNH_ALL | 4.4 | CMD_TLBI_NSNH_ALL is executed | QEMU (sequences)
cmd.ATC_INV | 4.5.1 | CMD_ATC_INV is executed | specification
cmd.PRI_RESP | 4.5.2 | CMD_PRI_RESP is executed | specification
cmd.RESUME | 4.7.1 | CMD_RESUME is executed | specification
cmd.STALL_TERM | 4.7.2 | CMD_STALL_TERM is executed | specification
cmd.SYNC | 4.7.3 | CMD_SYNC is executed | specification
cmd.all | 4.3.6 | CMD_CFGI_ALL (Range 31) | QEMU
cmd.leaf | 4.3, 4.4 (Leaf) | an invalidation leaves level 1 or table descriptors cached | specification
cmd.range | 4.4.1.1 | a range invalidation (TG, NUM, SCALE) | QEMU (sequences), specification
cmd.level | 4.4.1 (TTL) | an invalidation with a level hint | specification
cmd.wildcard | 3.17.6 | an invalidation with a VMID wildcard | specification
cmd.queue | 3.5 | commands are taken out of the queue in memory | OpenVMM, specification
cmd.wrap | 3.5.1 | the command queue wraps | OpenVMM, specification
cmd.illegal | 7.1 | CERROR_ILL | QEMU for every opcode
cmd.abort | 7.1 | CERROR_ABT: nothing answers where the command is | specification
cmd.atc-timeout | 3.9.1.4, 7.1 | CERROR_ATC_INV_SYNC: an endpoint did not answer | specification
cmd.resume-retry | 4.7.1 | CMD_RESUME retries an access | specification
cmd.resume-abort | 4.7.1 | CMD_RESUME ends an access with an abort | specification
cmd.resume-razwi | 4.7.1 | CMD_RESUME ends an access as RAZ/WI | specification
eventq.written | 7.2 | a record is in the event queue | QEMU
eventq.wrap | 3.5.1 | the event queue wraps | specification
eventq.overflow | 7.4 | the event queue is full: OVFLG toggles | specification
eventq.off | 7.2 | the event queue is off: the record is lost | specification
eventq.merged | 7.3.1 | like records are merged (STE.MEV) | specification
eventq.abort | 7.2, 7.5 | nothing answers where the record goes: EVENTQ_ABT_ERR | specification
priq.written | 8.1 | a page request is in the PRI queue | specification
priq.overflow | 8.1 | the PRI queue is full: OVFLG toggles | specification
priq.response | 8.1, 8.2 | the SMMU answers a page request itself | specification
priq.abort | 8.2, 7.5 | nothing answers where a page request goes: PRIQ_ABT_ERR | specification
gerror.acknowledged | 6.3.19, 6.3.20 | software acknowledges a global error | OpenVMM, specification
gerror.cmdq | 7.1 | GERROR.CMDQ_ERR | OpenVMM, specification
gerror.msi | 7.5 | nothing answers where a message goes: GERROR.MSI_*_ABT_ERR | specification
irq.SYNC | 4.7.3 | an interrupt for CMD_SYNC | OpenVMM, specification
irq.EVENTQ | 3.18 | an interrupt for the event queue | OpenVMM, specification
irq.PRIQ | 3.18, 6.3.36 | an interrupt for the PRI queue | specification
irq.GERROR | 3.18 | an interrupt for a global error | OpenVMM, specification
msi.written | 3.18.1 | a message of the SMMU is in memory | OpenVMM, specification
reg.guarded | 6.2, 6.3.12, 6.3.24 to 6.3.36 | a register that is in use ignores a write | specification
reg.read-only | 6.3.1 to 6.3.8 | a write to a register that is read only | specification
reg.gbpa-update | 6.3.14 | GBPA without Update ignores a write | specification
reg.absent | 6.2 | a register of a feature that is not there | specification
cr0.on | 6.3.9 | SMMUEN becomes 1 | QEMU
cr0.off | 6.3.9.6 | SMMUEN becomes 0 | QEMU
stall.terminated | 6.3.9.6, 4.7.2 | a stalled access is terminated by SMMUEN or CMD_STALL_TERM | specification
"""

BEHAVIOURS: dict[str, Behaviour] = {
    key: Behaviour(key, *rest) for key, *rest in (tuple(part.strip() for part in line.split("|")) for line in _TABLE.strip().splitlines())
}
"""Every behaviour by its key, in the order of a transaction, then of software's side."""
