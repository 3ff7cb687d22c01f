"""From facts to a host: a pure function."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, cached_property, lru_cache, partial

from wizard.base.address import Address
from wizard.base.finding import Finding
from wizard.facts import model as facts_model
from wizard.facts.held import Place, why_unread
from wizard.facts.model import Facts, PciFunction
from wizard.host import smmu as smmu_room
from wizard.host.assumed import Assumed
from wizard.host.conditions import Answer, Evidence
from wizard.host.firmware import Firmware
from wizard.host.function import Capabilities, Site, parent_of
from wizard.host.groups import groups_of
from wizard.host.iort import component_stream_ids
from wizard.host.known import UNKNOWN, Known, Source, first
from wizard.host.log.parse import KernelLog, parse_log, smmu_bases
from wizard.host.model import Function, Host, Smmu, Verdict, uses_by_function
from wizard.host.pci.config import ConfigSpace, decode_config
from wizard.host.pci.path import Paths, PciNode
from wizard.host.silicon import hardware, registers_of
from wizard.host.streams import Given, Streams
from wizard.host.todo import Company, todo_of
from wizard.host.verdict import Verdicts, judge
from wizard.host.vmm import Vmm

BRIDGE_HEADERS = (1, 2)  # PCI-to-PCI and CardBus; a function that reads all ones shows another
HOST_BRIDGE = 0x0600  # class and sub-class; an "other bridge" (0x0680, NVSwitch) is an endpoint that can be given away
BRIDGE_CLASSES = frozenset({HOST_BRIDGE, 0x0604, 0x0607, 0x0609})  # PCI-to-PCI, CardBus and semi-transparent: where the header could not be read
_HEADER = 0x0F  # bytes: what has to be read for its type
_BAD_STREAM = 0x02
_BASE = re.compile(r"smmu3\.0x([0-9a-f]+)")
_KINDS = (("smmu3.", "smmuv3"), ("smmu.", "smmuv2"), ("dmar", "intel"), ("ivhd", "amd"), ("viommu", "virtio"))


def host_of(facts: Facts) -> Host:
    """What the facts of one machine mean. Never raises for odd facts: what can't be read is a finding or unknown."""
    builder = _Builder(facts)
    return builder.host()


def _told(host: Host) -> Mapping[tuple[str, ...], Finding]:
    from wizard.host.log.findings import told  # the tables of the log's lines: only for who asks what it means

    return told(host)


_firmware = lru_cache(maxsize=64)(Firmware)
"""A fleet's machines of one model have equal tables."""


class _Builder:
    """Holds the indexes while a host is put together; nothing of it outlives the call but closures over frozen data."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        # Asked for every function and the same for many: kept by this builder, and gone with it.
        self._canwbs = cache(self._find_canwbs)
        self._ats = cache(lambda segment: self._told_by_iort(self.firmware.ats(segment)))
        self._viommu = cache(self._find_viommu)
        self._same: Callable[[str | None, int], dict[object, Answer]] = cache(lambda smmu, segment: {})
        self._isolated_msi = cache(self._find_isolated_msi)
        self._its_roots = cache(self._find_its_roots)
        self._config = cache(self._find_config)
        self._untranslated = cache(self._find_untranslated)
        self._linked = cache(lambda name: Known(name, Source.SYSFS))
        self._reserved = cache(lambda ranges: Known(ranges, Source.ASSUMED if self.assumed.covers("acpi.IORT") else Source.IORT))
        self.log: KernelLog = parse_log(facts.log)
        self.aliases = self.log.aliases
        self.firmware = _firmware(facts.acpi.get("IORT"), facts.acpi.get("APIC"))
        self.by_address = {function.address: function for function in facts.functions}
        self.assumed = Assumed(facts.assumptions)
        self.unread = {place: why_unread(facts, place) for place in Place}
        self.uses = uses_by_function(facts)
        self.release = facts.kernel.release or self.log.release or ""
        self.physical = {vf: pf.address for pf in facts.functions for vf in pf.virtfns}
        self.nodes = self._nodes()
        self.paths = Paths(self.nodes)
        self.streams_of = Streams(facts, self.firmware, self.assumed, self.paths)
        self.groups = groups_of(facts)
        self.group_of = {member: group.id for group in self.groups.values() for member in group.devices}
        self.iommus = _iommus(facts)
        self.policies = {policy.subject: policy for policy in facts.policy}
        self.probed: dict[str, list[facts_model.HwInfo]] = {}
        self.iommu_of = self._iommus_by_function()
        for info in facts.hw_info:
            # A probe may speak of a function that this moment does not show: its segment and requester ID tell the SMMU.
            told = Address.parse(info.address)
            if info.error is None and (name := self.iommu_of.get(info.address) or self.streams_of.given(told, told.rid).smmu):
                self.probed.setdefault(name, []).append(info)
        self.answers = {info.address: info for info in facts.hw_info if info.error is None}
        self.functions = {function.address: self._function(function) for function in facts.functions}
        self.company, self.listed = Company(self.functions), frozenset(map(id, facts.iommus))
        # Where /sys/class/iommu was not read: those that functions are behind, or that the firmware names where there is no function.
        names = {function.smmu or "" for function in self.functions.values()} if self.functions else self.streams_of.smmus()
        for name in sorted(names - self.iommus.keys() - {""}) if self.unread[Place.IOMMUS] else ():
            self.iommus[name] = facts_model.IommuDevice(name=name)
        self.smmus = {iommu.name: self._smmu(iommu) for iommu in self.iommus.values()}
        self.any_smmuv3 = any(smmu.kind == "smmuv3" for smmu in self.smmus.values())
        self.other_iommu = next((smmu.kind for smmu in self.smmus.values() if smmu.kind != "smmuv3"), None)
        self.streams: dict[tuple[str, int], list[str]] = {}
        for name, function in self.functions.items():
            above = function.smmu or function.iort_smmu
            for stream_id in function.stream_ids if above else ():
                self.streams.setdefault((above or "", stream_id), []).append(name)
        for component in self.firmware.iort.named_components if self.firmware.iort else ():
            for stream in component_stream_ids(self.firmware.iort, component) if self.firmware.iort else ():
                self.streams.setdefault((_name(stream.smmu.base), stream.stream_id), []).append(component.path)
        for name, stream_id, device in self.streams_of.of_platform_devices(facts.iommus):
            self.streams.setdefault((name, stream_id), []).append(device)

    def host(self) -> Host:
        """The finished host."""
        return Host(
            facts=self.facts,
            functions=self.functions,
            smmus=self.smmus,
            groups=self.groups,
            iort=self.firmware.iort,
            iort_findings=self.firmware.findings,
            verdicts=Verdicts(self.functions, self._verdict),
            other_verdicts={vmm: Verdicts(self.functions, partial(self._verdict, vmm=vmm)) for vmm in Vmm if vmm is not Vmm.QEMU},
            find_told=_told,
        )

    def _nodes(self) -> Mapping[Address, PciNode]:
        nodes = {}
        for function in self.facts.functions:
            above = parent_of(function)
            address = Address.parse(function.address)
            nodes[address] = PciNode(
                address=address,
                # One that is not in the snapshot stays named: what it does to DMA is unknown then.
                parent=_address(above),
                config=decode_config(_bytes(function.config), function.config_length, function.config_known),
                placed=not function.path.startswith(facts_model.UNPLACED),
                virtual=function.physfn is not None or function.address in self.physical,
            )
        return nodes

    def _iommus_by_function(self) -> dict[str, str]:
        # The link of the function itself is the kernel's word; the list below /sys/class/iommu says the same of every member.
        found = {member: iommu.name for iommu in self.facts.iommus for member in iommu.members}
        found |= {function.address: function.iommu for function in self.facts.functions if function.iommu}
        return found

    def _function(self, facts: PciFunction) -> Function:
        address = Address.parse(facts.address)
        node = self.nodes[address]
        given = self.streams_of.every(address)
        own = given[0]
        streams, source = self.streams_of.stream_ids(address, given)
        group = self.group_of.get(facts.address) if facts.iommu_group is None else facts.iommu_group
        smmu = self._above(facts, group, own)
        return Function(
            facts=facts,
            address=address,
            config=node.config,
            parent=str(node.parent) if node.parent in self.nodes else None,
            smmu=smmu.value if isinstance(smmu.value, str) else None,
            smmu_source=smmu,
            iort_smmu=own.smmu,
            stream_ids=streams,
            stream_source=source,
            group=group,
            numa_node=None if facts.numa_node < 0 else facts.numa_node,
            capabilities=Capabilities(lambda: self._site(facts, node)),
            is_bridge=_is_bridge(node.config, int(facts.class_, 16)),
            policy=self.policies.get(facts.address),
        )

    def _above(self, facts: PciFunction, group: int | None, own: Given) -> Known:
        """The IOMMU above a function that the kernel uses for it, by name; None where nothing names it."""
        if name := self.iommu_of.get(facts.address):
            return self._linked(name)
        # A source without links shows by the group that there is one: only vfio's no-IOMMU mode makes a group without.
        if group is None or self.unread[Place.LINKS] is None or self._no_iommu_mode:
            return UNKNOWN
        if own.smmu is not None:
            return Known(own.smmu, self.streams_of.source, f"by its group ({group}) the kernel uses an IOMMU for it, and the firmware names this one")
        if len(self.facts.iommus) == 1 and self.unread[Place.IOMMUS] is None:
            return Known(
                self.facts.iommus[0].name, Source.SYSFS, f"by its group ({group}) the kernel uses an IOMMU for it, and the host has this one alone"
            )
        return UNKNOWN

    @property
    def _no_iommu_mode(self) -> bool:
        return self.facts.kernel.module_parameters.get("vfio.enable_unsafe_noiommu_mode", "N") not in ("N", "0")

    @property
    def _iort_source(self) -> Source:
        return Source.ASSUMED if self.assumed.covers("acpi.IORT") else Source.IORT

    def _none_above(self, function: Function) -> bool:
        """Whether it was looked at, and the kernel uses no IOMMU for the function: nothing that would show one does."""
        address = function.facts.address
        if function.smmu is not None or function.group is not None or address in self.log.groups:
            return False
        if self.unread[Place.LINKS] is None or self.unread[Place.GROUP_LINKS] is None:
            # The list of IOMMUs, or another function's link, shows that links are what this source holds.
            return self.unread[Place.IOMMUS] is None or bool(self.iommu_of) or bool(self.group_of)
        # The kernel makes a link by the firmware's word alone.
        if self.streams_of.by_tree:
            given = self.streams_of.every(function.address)
            return given[-1].known and given[-1].smmu is None
        return self.firmware.whole and self.firmware.smmu_count is not None and function.iort_smmu is None

    def _site(self, facts: PciFunction, node: PciNode) -> Site:
        address = node.address
        pf = facts.physfn or self.physical.get(facts.address)
        physical = self.nodes.get(Address.parse(pf)) if pf and pf in self.by_address else None
        return Site(
            facts=facts,
            address=address,
            space=node.config,
            physical=physical.config if physical else None,
            paths=self.paths,
            canwbs=self._canwbs(address.segment),
            root_complex_ats=self.streams_of.ats(address) if self.streams_of.by_tree else self._ats(address.segment),
            rmr=lambda: self._rmr(address),
            probed=self.answers.get(facts.address),
            told=Source.ASSUMED if self.assumed and self.assumed.covers(f"functions.{facts.address}.config") else Source.CONFIG,
        )

    def _find_canwbs(self, segment: int) -> Known:
        if self.streams_of.by_tree:
            if "nvidia" in self.release:
                return Known(None, Source.NONE, "NVIDIA's kernels go ways of their own about CANWBS, and no source tells theirs under a device tree")
            # No property stands for it: iort_iommu_configure_id() alone sets IOMMU_FWSPEC_PCI_RC_CANWBS (Linux 6.13 to 7.3).
            return Known(False, Source.DEVICE_TREE, "a device tree has no property for it")
        told = self._told_by_iort(self.firmware.canwbs(segment))
        if told.is_false and not self.release:
            return Known(None, Source.NONE, "IORT says no, which NVIDIA's kernels do not heed, and which kernel runs was not read")
        if told.is_false and "nvidia" in self.release:
            # Their iort.c takes every root complex for coherent: a clear bit proves nothing on it.
            return Known(None, Source.NONE, "NVIDIA's kernels take CANWBS for granted, whatever IORT says")
        return told

    def _rmr(self, address: Address) -> Known:
        if self.streams_of.by_tree:
            return Known(None, Source.NONE, "a device tree has none; memory that it reserves for a device shows in the group's reserved regions")
        if self.firmware.iort is None:
            return Known(None, Source.NONE, "IORT was not read")
        ranges = (f"{one.start:#x}-{one.end:#x} {one.type}" for one in self.firmware.rmrs(address.segment, address.rid))
        return self._reserved(", ".join(ranges) or "none")

    def _told_by_iort(self, value: bool | None) -> Known:
        if value is None:
            return Known(None, Source.NONE, "IORT was not read" if self.firmware.iort is None else "IORT has no root complex for it")
        return Known(value, Source.ASSUMED if self.assumed.covers("acpi.IORT") else Source.IORT)

    def _smmu(self, iommu: facts_model.IommuDevice) -> Smmu:
        match = _BASE.fullmatch(iommu.name)
        base = int(match[1], 16) if match else None
        kind = next((kind for prefix, kind in _KINDS if iommu.name.startswith(prefix)), "other")
        below = self.company.below.get(iommu.name, [])
        told = self._told(iommu)
        silicon = told.has if kind == "smmuv3" else {}
        found = smmu_room.capabilities(told) if kind == "smmuv3" else {}
        return Smmu(
            name=iommu.name,
            kind=kind,
            base=base,
            device=iommu.device,
            listed=id(iommu) in self.listed,
            numa_node=self._numa(base, below),
            functions=tuple(map(str, below)),
            platform_devices=tuple(member for member in iommu.members if member not in self.by_address),
            segments=tuple(sorted({address.segment for address in below})),
            registers=told.registers,
            features=told.log.features if told.log else None,
            options=told.log.options if told.log else None,
            capabilities=found,
            hardware=silicon,
            policy=self.policies.get(iommu.name),
        )

    def _numa(self, base: int | None, below: list[Address]) -> int | None:
        # The kernel gives an SMMU's node to no file of sysfs; IORT's proximity domain is not a node number. Its functions' node is.
        nodes = {node for address in below if (node := self.functions[str(address)].numa_node) is not None}
        return nodes.pop() if len(nodes) == 1 else None

    def _told(self, iommu: facts_model.IommuDevice) -> smmu_room.Told:
        """Everything that was told of one SMMU, by whom it was told."""
        infos = self.probed.get(iommu.name, [])
        assumed = self.assumed.covers(f"hw_info.{iommu.name}")
        registers = next((r for info in infos if (r := registers_of(info, assumed=assumed))), None)
        match = _BASE.fullmatch(iommu.name)
        return smmu_room.Told(
            has=hardware(registers),
            registers=registers,
            log=self.log.smmu(iommu.device) if iommu.device else None,
            probed=smmu_room.probed(infos, assumed=assumed),
            release=self.release,
            iort=self.firmware.smmu(int(match[1], 16)) if match else None,
            by_tree=self.streams_of.by_tree,
            tree_coherent=self.streams_of.coherent_walks(iommu.name, iommu.device),
            log_assumed=self.assumed.covers(f"log.{iommu.name}"),
            bits_assumed=frozenset(self.assumed.below(f"log.{iommu.name}")) if self.assumed else frozenset(),
            iort_assumed=self.assumed.covers("acpi.IORT"),
        )

    def _find_viommu(self, name: str | None, segment: int) -> Known:
        """Whether a vIOMMU was made for any function of this SMMU and segment: it speaks for all of them."""
        if name is None or self.assumed.covers(f"hw_info.{name}"):
            return UNKNOWN
        here = [info for info in self.probed.get(name, []) if info.viommu and Address.parse(info.address).segment == segment]
        for info in sorted(here, key=lambda info: info.viommu != "ok"):
            if info.viommu == "ok" or info.viommu in smmu_room.REFUSALS:
                return Known(info.viommu == "ok", Source.PROBE, f"tried on {info.address}")
        return Known(None, Source.NONE, f"IOMMU_VIOMMU_ALLOC on {here[0].address} ended with {here[0].viommu}") if here else UNKNOWN

    def _verdict(self, address: str, vmm: Vmm = Vmm.QEMU) -> Verdict:
        function = self.functions[address]
        above = self.smmus.get(function.smmu) if function.smmu else None
        name = function.smmu or function.iort_smmu
        sharing = [(stream, other) for stream in function.stream_ids for other in self.streams.get((name or "", stream), ()) if other != address]
        evidence = Evidence(
            function=function,
            smmu=above,
            group=self.groups.get(function.group) if function.group is not None else None,
            sharing=tuple(sharing),
            alias_refused=self.aliases.get(address),
            smmu_failed=self._failed.get(function.iort_smmu or ""),
            ats_refused=address in self.log.ats_refused,
            one_to_one=address in self.log.one_to_one,
            any_smmuv3=self.any_smmuv3,
            other_iommu=self.other_iommu,
            device_tree=self.streams_of.by_tree,
            tree_why=self.streams_of.tree_why(function.address),
            behind_conventional=lambda: self.streams_of.behind_conventional(function.address),
            acpi_smmus=self.firmware.smmu_count,
            machine=self.facts.kernel.machine,
            aliases_known=self.streams_of.aliases_known(function.address),
            canwbs=self._canwbs(function.address.segment),
            viommu=self._viommu(function.smmu, function.address.segment),
            isolated_msi=self._isolation_of(function),
            config=self._config,
            made_up=self._made_up(function),
            release=self.release,
            none_above=above is None and self._none_above(function),
            iommus_unread=self.unread[Place.IOMMUS],
            groups_unread=self.unread[Place.GROUPS],
            iort_unread=None if self.firmware.iort is not None else self.unread[Place.IORT] or "not there, or needs root",
            untranslated=self._untranslated,
            same=self._same(function.smmu, function.address.segment),
        )
        uses = self.uses.get(function.facts.address, ())
        return judge(evidence, lambda fit: todo_of(self.facts, function, evidence.group, self.company, uses, fit=fit), vmm)

    def _made_up(self, function: Function) -> tuple[str, ...]:
        """What the verdict of a function rests on and nobody measured, in words."""
        if not self.facts.assumptions:
            return ()
        place = f"functions.{function.facts.address}"
        rests_on = {
            "its place on the bus": f"{place}.path",
            "its configuration space": f"{place}.config",
            "the SMMU above it": f"{place}.iommu",
            "its group": f"{place}.iommu_group",
            "the group's members and regions": f"groups.{function.group}.reserved_regions",
            "the SMMUs": "iommus",
            "the firmware's IORT": "acpi.IORT",
        }
        return tuple(words for words, path in rests_on.items() if self.assumed.covers(path))

    @cached_property
    def _failed(self) -> dict[str, str]:
        """SMMU -> why the kernel's driver gave it up, with the StreamID that two devices claimed where that was it."""
        # The one that failed has no link in sysfs, so that links alone never name it: the order of IORT does, when it is whole.
        order = [smmu.base for smmu in self.firmware.iort.smmus] if self.firmware.iort else []
        bases = smmu_bases(self.log, {}, order) or smmu_bases(self.log, self._links)
        claimed = "; ".join(f"{one.device} claims StreamID {one.stream_id:#x} that another device has" for one in self.log.duplicates)
        return {
            _name(bases[device]): "; ".join(filter(None, (smmu.failed, claimed)))
            for device, smmu in self.log.smmus.items()
            if smmu.failed and device in bases
        }

    @property
    def _links(self) -> dict[str, int]:
        return {iommu.device: int(match[1], 16) for iommu in self.facts.iommus if iommu.device and (match := _BASE.fullmatch(iommu.name))}

    def _find_untranslated(self) -> str:
        """What becomes of DMA that no stream table entry is for, where the log shows it: C_BAD_STREAMID is an abort (IHI 0070, 7.3.3)."""
        since = self.facts.moment.log
        if any(name in line for line in since for name in ("event 0x02 ", "C_BAD_STREAMID")):
            events = (*self.log.event_counts, *parse_log(since).event_counts)
        else:
            events = tuple(self.log.event_counts)  # a flood of other events is not read for this
        seen = sorted({stream for _, number, stream in events if number == _BAD_STREAM and stream is not None})
        if not seen:
            return ""
        streams = ", ".join(f"{stream:#x}" for stream in seen[:4]) + (" …" if len(seen) > 4 else "")
        return f"; an SMMU aborted DMA of StreamID {streams}, for which it has no entry (C_BAD_STREAMID)"

    def _isolation_of(self, function: Function) -> Known:
        """Whether its interrupts are isolated: by its own msi-map, what holds for the whole host, or where its vectors are."""
        of_host = self._isolated_msi()
        if of_host.measured and not self.streams_of.by_tree:
            return of_host
        return first(self.streams_of.isolated_msi(function.address), of_host, self._by_vectors(function))

    def _find_isolated_msi(self) -> Known:
        gic = self.firmware.gic
        if self.firmware.its_groups:
            # The kernel finds an ITS group's services by their numbers in MADT (iort_find_domain_token()): one that is not there has no domain.
            named = self.firmware.its_identifiers
            if gic is not None and gic.whole and not named & {number for number, _ in gic.its}:
                wanted = ", ".join(map(str, sorted(named)))
                return Known(False, Source.MADT, f"IORT's ITS group names ITS {wanted}, and MADT has {gic.words}")
            return Known(True, self._iort_source, "IORT has an ITS group")
        if self.firmware.whole:
            # Under ACPI a function's MSI domain is found by its ITS group alone (iort_get_device_domain()).
            return Known(False, self._iort_source, "IORT has no ITS group")
        if self.log.its:
            return Known(True, Source.LOG, "the kernel found a GIC ITS")
        if self.log.gicv2m:
            return Known(False, Source.LOG, "the host has GICv2m and no ITS")
        if gic is not None and (gic.its or gic.whole):
            return Known(bool(gic.its), Source.MADT, f"MADT has {gic.words}")
        return UNKNOWN

    def _by_vectors(self, function: Function) -> Known:
        """Whether interrupts of a function, or of others below its host bridge, go to an ITS now: its_init_domain() gives each ITS's domain
        IRQ_DOMAIN_FLAG_ISOLATED_MSI, which msi_device_has_isolated_msi() looks for (but on SynQuacer, which has no SMMUv3).
        """
        its = self._its_roots()
        if function.facts.address in self.facts.moment.its:
            return Known(True, Source.SYSFS, "its vectors are an ITS's (/proc/interrupts)")
        if other := its.get(function.facts.path.partition("/")[0]):
            return Known(True, Source.SYSFS, f"vectors of {other}, below the same host bridge, are an ITS's (/proc/interrupts)")
        return UNKNOWN

    def _find_its_roots(self) -> dict[str, str]:
        found = (self.by_address[address] for address in self.facts.moment.its if address in self.by_address)
        return {function.path.partition("/")[0]: function.address for function in found}

    def _find_config(self, option: str) -> Known:
        config = self.facts.kernel.config
        if option == "CONFIG_IOMMUFD" and self.facts.iommufd:
            return Known(True, Source.SYSFS, "/dev/iommu is there")
        if option == "CONFIG_NVGRACE_GPU_VFIO_PCI" and "nvgrace-gpu-vfio-pci" in self.facts.kernel.drivers:
            return Known(True, Source.SYSFS, "the driver is loaded")
        if config is None:
            return UNKNOWN
        source = Source.ASSUMED if self.assumed.covers("kernel.config") else Source.CONFIG
        if option in config:
            return Known(config[option] in ("y", "m"), source, f"{option}={config[option]}")
        # Of a configuration that is silent: one that was recorded whole says no so, one of chosen lines, or an empty one, says nothing.
        if self.facts.kernel.option(option) is None:
            return Known(None, Source.NONE, f"{option} is not in the part of the configuration that was recorded")
        return Known(False, source, f"{option} is not in the configuration")


def _iommus(facts: Facts) -> dict[str, facts_model.IommuDevice]:
    """What /sys/class/iommu lists, and what a function's own link names beside it."""
    found = {iommu.name: iommu for iommu in facts.iommus}
    for function in facts.functions:
        if function.iommu is not None and function.iommu not in found:
            found[function.iommu] = facts_model.IommuDevice(name=function.iommu)
    return found


def _is_bridge(space: ConfigSpace, class_code: int) -> bool:
    """By the header's own type; by the class where no header was read, or it reads all ones."""
    if class_code >> 8 == HOST_BRIDGE or (space.length >= _HEADER and not space.dead):
        return class_code >> 8 == HOST_BRIDGE or space.header_type in BRIDGE_HEADERS
    return class_code >> 8 in BRIDGE_CLASSES


def _address(text: str | None) -> Address | None:
    try:
        return None if text is None else Address.parse(text)
    except ValueError:
        return None  # part of a path that only looks like one


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _name(base: int) -> str:
    return f"smmu3.{base:#018x}"
