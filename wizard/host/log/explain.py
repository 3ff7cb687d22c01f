"""What each event of an SMMU means, and what to do about it: IHI 0070, section 7.3, as data.

``{device}`` is who has the StreamID, ``{whose}`` who maps memory for it: a driver of the host, or the guest that it was given to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from wizard.arch import event as arch
from wizard.arch.event import EventType as E
from wizard.base.finding import OnTree
from wizard.host.log.model import Event


class Explanation(msgspec.Struct, frozen=True):
    """Cause and next step of one kind of event."""

    why: str
    fix: str
    tree: OnTree = OnTree()

    def on_tree(self) -> Explanation:
        """The same, as it is said of a host with a device tree."""
        return Explanation(self.tree.why or self.why, self.tree.fix or self.fix)


_DRIVER = "Update the driver and firmware of {device}; "
_STRUCTURE = "Look for memory errors (RAS, EDAC) in the log; update kernel and firmware, and boot again if it goes on."

EXPLAINED: dict[int, Explanation] = {
    E.F_UUT: Explanation(
        "The device sent a transaction that the SMMU does not support (7.3.2): its attributes or its kind are wrong, no mapping is.",
        _DRIVER + "send the vendor the whole record with its reason.",
    ),
    E.C_BAD_STREAMID: Explanation(
        "The SMMU has no stream table entry for this StreamID (7.3.3), and aborts the DMA: the kernel did not add {device} to its IOMMU, "
        "or the StreamID is beyond the table.",
        "Look in `dmesg` for `Adding to iommu group` and `Aliasing StreamID` of {device}; reset it if DMA came before its driver.",
    ),
    E.F_STE_FETCH: Explanation(
        "The SMMU could not read the stream table entry (7.3.4): an external abort on the fetch, of memory or of the way to it.", _STRUCTURE,
    ),
    E.C_BAD_STE: Explanation(
        "The stream table entry is not valid or not one that this SMMU takes (7.3.5). For a function in a VM it is made from what the guest wrote: "
        "two functions of one IOMMU group, or a guest that asks for more than the SMMU has.",
        "See that {device} is alone in its IOMMU group (`smmu-wizard show`), and that its VM's vSMMU asks for no more than the host has "
        "(`smmu-wizard check`); on the host itself update the kernel.",
    ),
    E.F_BAD_ATS_TREQ: Explanation(
        "An ATS translation request came in from a StreamID that may send none (7.3.6): ATS is on in the device and off in the SMMU.",
        "Reset {device}; plan it with --ats off, or let the host switch ATS on (IORT's ATS attribute, a kernel with CONFIG_PCI_ATS).",
        OnTree(fix="Reset {device}; plan it with --ats off, or let the host switch ATS on (ats-supported in the device tree, CONFIG_PCI_ATS)."),
    ),
    E.F_STREAM_DISABLED: Explanation(
        "Its stream takes no DMA without a SubstreamID (7.3.7): stage 1 was set up for PASIDs alone (STE.S1DSS is terminate), or a PASID of 0 was "
        "used where it may not be. The driver that owns the table did not give the device a default address space.",
        "See that the driver of {device} attaches a default domain before it uses PASIDs: in the guest, if a VM has it.",
    ),
    E.F_TRANSL_FORBIDDEN: Explanation(
        "A transaction came in as already translated (ATS) from a StreamID that may not send such (7.3.8); the SMMU checked it and stopped it. "
        "A device that uses translated addresses without leave may mean to get around the SMMU.",
        "Take {device} away from its VM; update its firmware, and give it to nobody with ATS until it is explained.",
    ),
    E.C_BAD_SUBSTREAMID: Explanation(
        "The DMA carries a SubstreamID (PASID) that its stream has no context for (7.3.9): beyond the table, or substreams are off.",
        "See that the driver of {device} binds a PASID before the device uses it, and that ssidsize of its vSMMU is large enough.",
    ),
    E.F_CD_FETCH: Explanation(
        "The SMMU could not read the context descriptor (7.3.10): an external abort; in a VM, a table that lies outside of its memory.", _STRUCTURE,
    ),
    E.C_BAD_CD: Explanation(
        "The context descriptor is not valid or not one that this SMMU takes (7.3.11): a PASID that was not bound, an unfit address size, granule "
        "or format. In a VM the guest wrote it.",
        "See that the driver of {device} binds the PASID before it is used; in a VM, that oas and the granules of its vSMMU are the host's.",
    ),
    E.F_WALK_EABT: Explanation(
        "An external abort met the SMMU when it read or wrote a translation table (7.3.12): a table in memory that does not answer.", _STRUCTURE,
    ),
    E.F_TRANSLATION: Explanation(
        "{device} reads or writes an address that nothing maps for it (7.3.13): {whose} did not map it, or unmapped it too soon; or an alias of "
        "another device uses its StreamID.",
        _DRIVER + "one that goes on faulting in the host will fault in a guest.",
    ),
    E.F_ADDR_SIZE: Explanation(
        "An address is larger than its stage can hold (7.3.14): what the device was told to use, or where a table leads, is beyond it.",
        "See the DMA mask that the driver of {device} sets, and oas of its vSMMU: a guest's memory and BARs must lie below it.",
    ),
    E.F_ACCESS: Explanation(
        "A table entry has no access flag (7.3.15), and the SMMU does not set it in hardware here: {whose} left AF clear.",
        "Update that kernel; with SVA it needs an SMMU that has HTTU, or entries that are made with AF set.",
    ),
    E.F_PERMISSION: Explanation(
        "The page is mapped, but not for this access (7.3.16): a write to what is mapped for reading, an unprivileged access, or a fetch of code.",
        _DRIVER + "a buffer that {whose} mapped in one direction is used in the other.",
    ),
    E.F_TLB_CONFLICT: Explanation(
        "Two entries of the SMMU's TLB answer for one address (7.3.17): a table was changed without break-before-make, or an invalidation was lost.",
        "Update the kernel that owns the tables ({whose}), and boot again: a missed invalidation may leave other wrong entries.",
    ),
    E.F_CFG_CONFLICT: Explanation(
        "Two entries of the SMMU's configuration cache answer for one stream (7.3.18): a table was changed without CFGI, or spans overlap.",
        "Update the kernel, and boot again.",
    ),
    E.E_PAGE_REQUEST: Explanation(
        "A hint that a page will soon be used (7.3.19), no error: the SMMU asks ahead for a page that nothing maps yet.",
        "Nothing to do.",
    ),
    E.F_VMS_FETCH: Explanation(
        "The SMMU could not read the structure that belongs to a VM (7.3.20): an external abort on the fetch.", _STRUCTURE,
    ),
}  # fmt: skip
"""By event number; the order is that of the specification."""

IMPLEMENTATION_DEFINED = Explanation(
    "The number is one that the maker of this SMMU gives a meaning of its own (7.3).", "Look it up in the manual of the SMMU, or ask the vendor."
)
RESERVED = Explanation(
    "The specification gives this number no meaning: a newer SMMU, or a record that was damaged on its way into the log.",
    "Look at the record's words; update the kernel, which may know it.",
)
UNTOLD = Explanation(
    "The SMMU has no stream table entry for this StreamID (7.3.3), and aborts the DMA: nothing goes to memory untranslated. Which function has it "
    "is not known: not every StreamID was read, and the one of a function that is there may be it.",
    "Read the host as root (`sudo smmu-wizard record`): the firmware's IORT says which function has the StreamID. Look in `dmesg` for "
    "`Adding to iommu group` and `Aliasing StreamID`, too.",
    OnTree(
        fix="Record the host again (`smmu-wizard record`): the device tree's iommu-map says which function has the StreamID. Look in `dmesg` for "
        "`Adding to iommu group` and `Aliasing StreamID`, too.",
    ),
)
NOBODY = Explanation(
    "DMA comes with a StreamID that no function of this host has{requester}: another requester ID of a card behind a bridge, a function that is "
    "hidden or was removed, or an IORT that maps IDs wrongly. The SMMU has no entry for it and aborts the DMA (7.3.3): nothing goes to memory "
    "untranslated.",
    "Look in the firmware's IORT for the IDs that lead there (`smmu-wizard show SMMU`), and which card is at that place (`lspci`); "
    "a card whose DMA carries several requester IDs can't be given to a VM.",
    OnTree(
        why="DMA comes with a StreamID that no function of this host has{requester}: another requester ID of a card behind a bridge, a function that "
        "is hidden or was removed, or an iommu-map that maps IDs wrongly. The SMMU has no entry for it and aborts the DMA (7.3.3): nothing goes to "
        "memory untranslated.",
        fix="Look in the device tree's iommu-map for the IDs that lead there (`smmu-wizard show SMMU`), and which card is at that place (`lspci`); "
        "a card whose DMA carries several requester IDs can't be given to a VM.",
    ),
)
"""C_BAD_STREAMID where the host shows no function with the StreamID."""
HARMLESS = "All at address 0 and read: seen on some SoCs as harmless prefetches before the driver sets the device up."
STALLED = (
    "The device's transaction is stalled: it waits until the driver resumes or terminates it, and may hold others up meanwhile; that is not harmless."
)
_CLASSES = {
    0: "The fault was met when the SMMU read a context descriptor, not at the device's own address: its table lies where stage 2 maps nothing.",
    1: "The fault was met when the SMMU read a translation table, not at the device's own address: the table lies where stage 2 maps nothing.",
}


def explain(number: int) -> Explanation:
    """Cause and step of an event by its number alone."""
    if number in arch.IMPLEMENTATION_DEFINED:
        return IMPLEMENTATION_DEFINED
    return EXPLAINED.get(number, RESERVED)


def harmless(events: Sequence[Event]) -> bool:
    """Only reads of address 0 that nothing maps, none of them stalled."""
    return bool(events) and all(
        isinstance(event.record, arch.TranslationEvent)
        and event.number == E.F_TRANSLATION
        and event.record.InputAddr == 0
        and event.record.RnW
        and not event.record.Stall
        and event.record.CLASS == arch.FaultClass.IN
        for event in events
    )


def further(events: Sequence[Event]) -> list[str]:
    """Sentences that the fields of the records add to the kind's cause."""
    records = [event.record for event in events if event.whole and isinstance(event.record, arch.TranslationEvent)]
    said = [STALLED] if any(record.Stall for record in records) else []
    return [*said, *(text for number, text in _CLASSES.items() if number in {record.CLASS for record in records})]


def fields(events: Sequence[Event]) -> str:
    """What the records say, in words: ``read, data, unprivileged, stage 1, CLASS IN, at 0xfd8ab002``; empty where no words were kept."""
    records = [event.record for event in events if event.record is not None]
    if not records:
        return ""
    whole = [event.record for event in events if event.record is not None and event.whole]
    said = [*_either(whole, "RnW", "read", "write"), *_either(whole, "InD", "instruction", "data"),
            *_either(whole, "PnU", "privileged", "unprivileged"), *_either(whole, "S2", "stage 2", "stage 1")]  # fmt: skip
    said += _values(whole, "CLASS", lambda value: f"CLASS {arch.TranslationEvent.CLASS.meaning(value) or value}")
    if any(record.fields().get("Stall") for record in whole):
        said.append("stalled")
    if any(record.SSV for record in records):
        said += _values([record for record in records if record.SSV], "SubstreamID", lambda value: f"SubstreamID {value:#x}")
    said += [text for text in _values(whole, "Reason", lambda value: f"reason {value:#x}") if text != "reason 0x0"]
    for name, words in (("InputAddr", "at"), ("IPA", "IPA"), ("FetchAddr", "fetch of")):
        found = sorted(value for record in records if (value := record.fields().get(name)) is not None)
        if found and (name == "InputAddr" or found[-1]):
            said.append(f"{words} {found[0]:#x}" + (f" to {found[-1]:#x}" if found[-1] != found[0] else ""))
    return ", ".join(said)


def _either(records: Iterable[arch.Event], name: str, one: str, zero: str) -> list[str]:
    values = {value for record in records if (value := record.fields().get(name)) is not None}
    return [" and ".join(word for value, word in ((1, one), (0, zero)) if value in values)] if values else []


def _values(records: Iterable[arch.Event], name: str, words: Callable[[int], str]) -> list[str]:
    values = {value for record in records if (value := record.fields().get(name)) is not None}
    return [words(value) for value in sorted(values)[:4]]
