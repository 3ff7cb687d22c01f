"""QEMU's ``arm-smmuv3,accel=on``: the guest's registers and command queue on one side, one vIOMMU of iommufd on the other.

Follows hw/arm/smmuv3-accel.c and smmuv3_cmdq_consume() of QEMU 11.1: each command that reaches the hardware is an ioctl of its own. When GBPA
and SMMUEN count is its own too (sources: qemu-gbpa).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from wizard.arch import command, event
from wizard.arch.command import CfgiSteRange, Command, CommandError, Op, StreamCommand, Sync
from wizard.arch.event import Event
from wizard.arch.idr import ADDRESS_BITS, IDR0, IDR1, IDR3, IDR5
from wizard.arch.registers import CR0, GBPA, StrtabBase, StrtabBaseCfg, TableFormat
from wizard.arch.ste import L1STD, STE, STE_BYTES, StreamConfig
from wizard.nesting import vste
from wizard.nesting.errors import KernelError
from wizard.nesting.events import Lost
from wizard.nesting.host import Device, Nested, Parent, Viommu, ViommuType
from wizard.nesting.invalidate import Words
from wizard.nesting.iommufd import Iommufd
from wizard.smmu import Consumed, Ids
from wizard.smmu.memory import Writable
from wizard.smmu.tables import read_record

BASE = Ids(idr0=0x0D44_101A, idr1=0x0273_0010, idr3=0x1404, idr5=0x74)
"""ID registers of QEMU's stage-1 model before the properties: 44-bit OAS, every granule, RIL, no substreams, no ATS."""

EVENT_QUEUE = 15
"""log2 of the guest's event queue (EVENTQ_BASE.LOG2SIZE), which decides the vEVENTQ's depth: what Linux allocates with pages of 4 KiB."""

_OAS = {44: 4, 48: 5}
_TLBI = (Op.TLBI_NH_ALL, Op.TLBI_NH_ASID, Op.TLBI_NH_VA, Op.TLBI_NH_VAA, Op.TLBI_NSNH_ALL)
UNHANDLED = (
    Op.TLBI_EL3_ALL, Op.TLBI_EL3_VA, Op.TLBI_EL2_ALL, Op.TLBI_EL2_ASID, Op.TLBI_EL2_VA, Op.TLBI_EL2_VAA, Op.PRI_RESP, Op.RESUME, Op.STALL_TERM,
)  # fmt: skip
"""Commands that smmuv3_cmdq_consume() logs and leaves aside: the guest hears nothing."""
_LOCAL = (Op.PREFETCH_CONFIG, Op.PREFETCH_ADDR)


def ids_of(*, ats: bool = False, ril: bool = True, ssidsize: int = 0, oas: int = 44) -> Ids:
    """The ID registers that the guest sees (smmuv3_accel_idr_override()); ``ValueError`` for an OAS other than 44 or 48."""
    if oas not in _OAS:
        raise ValueError(f"QEMU's arm-smmuv3 has 44 or 48 bits of OAS, not {oas}")
    return Ids(
        idr0=IDR0(BASE.idr0).replace(ATS=int(ats)).value,
        idr1=IDR1(BASE.idr1).replace(SSIDSIZE=ssidsize).value,
        idr3=IDR3(BASE.idr3).replace(RIL=int(ril)).value,
        idr5=IDR5(BASE.idr5).replace(OAS=_OAS[oas]).value,
    )


class Incompatible(Exception):
    """QEMU itself refuses; the text is its message."""


def compare(ids: Ids, raw: Ids) -> str | None:
    """QEMU's message where the host's raw registers do not supply the vSMMU's, in its order; None where they do."""
    host0, host1, host3, host5 = IDR0(raw.idr0), IDR1(raw.idr1), IDR3(raw.idr3), IDR5(raw.idr5)
    idr0, idr1, idr3, idr5 = IDR0(ids.idr0), IDR1(ids.idr1), IDR3(ids.idr3), IDR5(ids.idr5)
    if host0.ST_LEVEL != idr0.ST_LEVEL:
        return f"Host SMMUv3 Stream Table format mismatch (host STLEVEL={host0.ST_LEVEL}, QEMU STLEVEL={idr0.ST_LEVEL})"
    if host0.TTENDIAN > idr0.TTENDIAN:
        return "Host SMMUv3 doesn't support Little-endian translation table"
    if host0.TTF < idr0.TTF:
        return "Host SMMUv3 doesn't support AArch64 translation table format"
    if host1.SIDSIZE < idr1.SIDSIZE:
        return f"Host SMMUv3 SIDSIZE not compatible (host={host1.SIDSIZE}, QEMU={idr1.SIDSIZE})"
    if host1.SSIDSIZE < idr1.SSIDSIZE:
        return f"Host SMMUv3 SSIDSIZE not compatible (host={host1.SSIDSIZE}, QEMU={idr1.SSIDSIZE})"
    if host3.RIL < idr3.RIL:
        return "Host SMMUv3 doesn't support Range Invalidation"
    if host5.OAS < idr5.OAS:
        return f"Host SMMUv3 supports only {ADDRESS_BITS[host5.OAS]}-bit IPA, but the vSMMU OAS implies {ADDRESS_BITS[idr5.OAS]}-bit IPA"
    if host0.ATS < idr0.ATS:
        return "Host SMMUv3 doesn't support Address Translation Services"
    for granule, name in (("GRAN4K", "4K"), ("GRAN16K", "16K"), ("GRAN64K", "64K")):
        if getattr(host5, granule) != getattr(idr5, granule):
            return f"Host SMMUv3 doesn't support {name} translation granule"
    return None


@dataclass(slots=True, eq=False)
class Behind:
    """One assigned function behind the vSMMU."""

    device: Device
    vsid: int
    hwpt: Nested | None = None


@dataclass(slots=True, eq=False)
class Vsmmu:
    """One virtual SMMU. ``memory`` is the guest's, by guest physical address; ``errors`` what QEMU prints."""

    iommufd: Iommufd
    ids: Ids
    memory: Writable
    type: ViommuType = ViommuType.ARM_SMMUV3
    viommu: Viommu | None = None
    behind: dict[int, Behind] = field(default_factory=dict)
    bypass: Nested | None = None
    abort: Nested | None = None
    cr0: CR0 = field(default_factory=lambda: CR0(0))
    gbpa: GBPA = field(default_factory=lambda: GBPA.build(SHCFG=1))
    strtab_base: StrtabBase = field(default_factory=lambda: StrtabBase(0))
    strtab_cfg: StrtabBaseCfg = field(default_factory=lambda: StrtabBaseCfg(0))
    errors: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    ignored: list[Words] = field(default_factory=list)
    forwarded: int = 0

    # -- functions ----------------------------------------------------------------------------------------------------

    def plug(self, device: Device, vsid: int, raw: Ids | None = None) -> None:
        """Realize a vfio-pci function: attach stage 2, compare, make the vIOMMU where there is none (smmuv3_accel_set_iommu_device()).

        Only the function that the vIOMMU is made with is attached to GBPA's HWPT (smmuv3_accel_alloc_viommu()). One that comes later stays on
        stage 2, whatever GBPA.ABORT and SMMUEN say, until its CFGI_STE, a write to GBPA or a reset.

        ``raw`` are the host SMMU's raw ID registers. ``Incompatible`` and ``KernelError`` as QEMU meets them.
        """
        self.iommufd.bind(device)
        parent = self.iommufd.parent_for(device)
        if raw is not None and (why := compare(self.ids, raw)):
            raise Incompatible(why)
        if self.viommu is None:
            self._make_viommu(device, parent)
        self.behind[vsid] = Behind(device, vsid)

    def _make_viommu(self, device: Device, parent: Parent) -> None:
        """smmuv3_accel_alloc_viommu(); what was made is given back when a step fails."""
        self.viommu = self.iommufd.alloc_viommu(device, parent, self.type)
        try:
            self.abort = self.iommufd.alloc_nested(self.viommu, (STE.build(V=1).words[0], 0))
            self.bypass = self.iommufd.alloc_nested(self.viommu, (STE.build(V=1, Config=StreamConfig.BYPASS).words[0], 0))
            self._make_veventq()
            self.iommufd.attach(device, self._global())
        except KernelError:
            self._free_viommu()
            raise

    def _free_viommu(self) -> None:
        """smmuv3_accel_free_viommu(): the vEVENTQ and both HWPTs go with it."""
        self.viommu = self.abort = self.bypass = None

    def _make_veventq(self) -> None:
        """smmuv3_accel_alloc_veventq(): once the guest has enabled its event queue."""
        if self.viommu is not None and self.viommu.veventq is None and self.cr0.EVENTQEN:
            self.iommufd.alloc_veventq(self.viommu, 1 << EVENT_QUEUE)

    def unplug(self, vsid: int) -> None:
        """smmuv3_accel_unset_iommu_device(): back to stage 2, the vDEVICE freed; then VFIO lets go.

        With the last function goes the vIOMMU: one that is plugged then, of any SMMU, gets a new one.
        """
        behind = self.behind.pop(vsid)
        if self.viommu is not None:
            self.iommufd.attach(behind.device, self.viommu.parent)
        self.iommufd.free_vdevice(behind.device)
        if not self.behind:
            self._free_viommu()
        self.iommufd.detach(behind.device)

    def _global(self) -> Nested:
        """smmuv3_accel_gbpa_hwpt()."""
        hwpt = self.abort if self.gbpa.ABORT else self.bypass
        if hwpt is None:
            raise AssertionError("no vIOMMU yet")
        return hwpt

    # -- registers ----------------------------------------------------------------------------------------------------

    def write_cr0(self, value: int) -> None:
        """The guest writes CR0. Nothing is attached anew, whatever becomes of SMMUEN (smmu_writel()): the HWPTs stay as the last CFGI_STE,
        write to GBPA or reset left them.
        """
        self.cr0 = CR0(value)
        self._make_veventq()

    def write_gbpa(self, value: int) -> None:
        """The guest writes GBPA: smmuv3_accel_attach_gbpa_hwpt() for every function, also while the SMMU is on; nothing without Update."""
        written = GBPA(value)
        if not written.Update:
            return
        self.gbpa = written.replace(Update=0)
        self._attach_global()

    def _attach_global(self) -> None:
        """smmuv3_accel_attach_gbpa_hwpt(): goes on behind a function that is refused, and prints it."""
        if self.viommu is None:
            return
        for behind in self.behind.values():
            try:
                self.iommufd.attach(behind.device, self._global())
            except KernelError as error:
                self.errors.append(f"Failed to attach GBPA hwpt for {behind.device.name}: {error}")

    def reset(self) -> None:
        """smmuv3_accel_reset(): registers as after power-on, every function on GBPA's HWPT; the guest's memory stays as it is."""
        self.cr0, self.gbpa = CR0(0), GBPA.build(SHCFG=1)
        self.strtab_base, self.strtab_cfg = StrtabBase(0), StrtabBaseCfg(0)
        self._attach_global()
        for behind in self.behind.values():
            behind.hwpt = None

    # -- stream table -------------------------------------------------------------------------------------------------

    def find_ste(self, sid: int) -> STE | None:
        """smmu_find_ste(): the guest's entry, None where its table has none or its memory does not answer."""
        size = min(self.strtab_cfg.LOG2SIZE, IDR1(self.ids.idr1).SIDSIZE)
        if sid >> size:
            return None
        where = self.strtab_base.ADDR + sid * STE_BYTES
        if self.strtab_cfg.FMT == TableFormat.TWO_LEVEL:
            split = self.strtab_cfg.SPLIT
            word = self.memory.read(self.strtab_base.ADDR + 8 * (sid >> split))
            if word is None:
                return None
            l1std = L1STD(word)
            within = sid & (1 << split) - 1
            if not l1std.Span or within >> l1std.Span:  # 2^Span entries: row 18 of fixtures/translation/qemu-departures.md
                return None
            where = l1std.L2Ptr + within * STE_BYTES
        words = read_record(self.memory, where, STE_BYTES // 8)
        return None if words is None else STE.of_words(words)

    def install(self, vsid: int) -> None:
        """smmuv3_accel_install_ste() of one function; ``KernelError`` where the kernel refuses, ``Incompatible`` for an unknown Config."""
        behind, viommu = self.behind.get(vsid), self.viommu
        if behind is None or viommu is None:
            return
        if behind.device.vdevice is None:
            self.iommufd.alloc_vdevice(viommu, behind.device, vsid)
        ste = self.find_ste(vsid)
        if ste is None:
            return
        hwpt: Nested | None
        if not self.cr0.SMMUEN:
            hwpt = self._global()
        elif not ste.V or ste.Config < StreamConfig.BYPASS:
            hwpt = self.abort
        elif ste.Config == StreamConfig.BYPASS:
            hwpt = self.bypass
        elif ste.Config == StreamConfig.STAGE1:
            low, high = ste.words[0] & vste.VMM_MASKS[0], ste.words[1] & vste.VMM_MASKS[1]
            hwpt = self.iommufd.alloc_nested(viommu, (low, high))
        else:
            raise Incompatible(f"Invalid STE config for sid 0x{vsid:x}")
        if hwpt is not None:
            self.iommufd.attach(behind.device, hwpt)
            behind.hwpt = hwpt

    # -- commands -----------------------------------------------------------------------------------------------------

    def consume(self, commands: Sequence[Words]) -> Consumed:
        """smmuv3_cmdq_consume(): in order until the first error, which the guest finds in CMDQ_CONS.ERR as CERROR_ILL."""
        for done, (low, high) in enumerate(commands):
            try:
                ok = self._one(low, high)
            except (KernelError, Incompatible) as error:
                self.errors.append(str(error))
                ok = False
            if not ok:
                return Consumed(done, CommandError.CERROR_ILL)
        return Consumed(len(commands), CommandError.CERROR_NONE)

    def _one(self, low: int, high: int) -> bool:
        decoded = command.decode(low, high)
        if type(decoded) is Command:
            return False
        op = Op(decoded.Opcode)
        if isinstance(decoded, Sync) or op in _LOCAL:
            return True
        if isinstance(decoded, StreamCommand) and decoded.SSec:
            return False
        if op is Op.CFGI_STE and isinstance(decoded, StreamCommand):
            self.install(decoded.StreamID)
        elif isinstance(decoded, CfgiSteRange):
            size = 2 << decoded.Range
            first = decoded.StreamID & -size
            self._install_range(first, first + size - 1)
        elif op in (Op.CFGI_CD, Op.CFGI_CD_ALL, Op.ATC_INV) and isinstance(decoded, StreamCommand):
            self._by_stream(decoded, (low, high))
        elif op in _TLBI:
            self._forward((low, high))
        elif op in UNHANDLED:
            self.ignored.append((low, high))
        else:
            return False  # TLBI_S12_VMALL, TLBI_S2_IPA: the model is stage 1 only; CFGI_VMS_PIDM
        return True

    def _install_range(self, first: int, last: int) -> None:
        failed = []
        for vsid in [vsid for vsid in self.behind if first <= vsid <= last]:
            try:
                self.install(vsid)
            except (KernelError, Incompatible) as error:
                failed.append(f"Device 0x{vsid:x}: Failed to install STE: {error}")
        if failed:
            raise Incompatible("; ".join(failed))

    def _by_stream(self, named: StreamCommand, words: Words) -> None:
        behind = self.behind.get(named.StreamID)
        if behind is None or behind.device.vdevice is None:
            self.ignored.append(words)
            return
        self._forward(words)

    def _forward(self, words: Words) -> None:
        """smmuv3_accel_issue_inv_cmd(): one ioctl with entry_num 1."""
        if self.viommu is None:
            return
        self.forwarded += 1
        self.iommufd.invalidate(self.viommu, [words])

    # -- events -------------------------------------------------------------------------------------------------------

    def read_events(self) -> tuple[Event, ...]:
        """smmuv3_accel_event_read() until nothing is left: records for the guest's queue; a loss is only reported on QEMU's stderr."""
        if self.viommu is None or self.viommu.veventq is None:
            return ()
        found = []
        for item in self.viommu.veventq.read():
            if isinstance(item, Lost):
                self.errors.append("vEVENTQ: overflowed")
            else:
                found.append(event.decode(item.event.value))
        self.events += found
        return tuple(found)
