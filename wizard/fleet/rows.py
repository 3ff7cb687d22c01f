"""One row for each PCI function of a host: what databases, spreadsheets and the files of other programs are made of.

``Row`` is the one schema: ``list --ndjson`` and ``list --csv`` write it, ``schema row`` describes it, docs/rows.md has a line for each
column, and the outputs in ``wizard.fleet.consumers`` read it. Every value is a text, a number or a boolean, so that a row is a row of a table;
what holds several is a text with one space between. null is unknown, or that there is none, as the column says; it is never a "no".
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from wizard.base.text import visible
from wizard.fleet.summary import GRANULES, stops
from wizard.host.known import Known, Source
from wizard.host.model import Accel, Function, Group, Host, Smmu
from wizard.host.pci import caps

Text = str | None
Number = int | None
Switch = bool | None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One function of one snapshot. Columns are added at the end, never renamed; the descriptions are the documentation's."""

    snapshot: Annotated[Text, Meta(description="the file that it comes from; null: no file")]
    host: Annotated[Text, Meta(description="the host's pseudonym, the same in each of its snapshots; null: the snapshot does not say")]
    hardware: Annotated[Text, Meta(description="the machine by its own serial numbers: tells apart what one image gave one `host`; null: not read")]
    recorded: Annotated[Text, Meta(description="when the snapshot was made, ISO 8601 in UTC; null: it does not say")]
    recorded_by: Annotated[Text, Meta(description="the version of smmu-wizard that made it")]
    digest: Annotated[Text, Meta(description="of the host's state: equal for two records of a host that did not change")]
    product: Annotated[Text, Meta(description="vendor and product of the host")]
    kernel: Annotated[Text, Meta(description="release of its kernel")]
    machine: Annotated[Text, Meta(description="its architecture, as `uname -m` has it")]
    page_size: Annotated[Number, Meta(description="bytes of a page of its kernel")]
    function: Annotated[str, Meta(description="address, `DDDD:BB:DD.F`")]
    vendor: Annotated[str, Meta(description="vendor ID, four hexadecimal digits")]
    device: Annotated[str, Meta(description="device ID, likewise")]
    subsystem_vendor: Annotated[Text, Meta(description="subsystem vendor ID, likewise; null: none, or not read")]
    subsystem_device: Annotated[Text, Meta(description="subsystem ID, likewise; null: none, or not read")]
    class_: Annotated[str, Meta(description="class code, six hexadecimal digits")] = msgspec.field(name="class")
    name: Annotated[Text, Meta(description="vendor and device in words")]
    driver: Annotated[Text, Meta(description="the driver that has it; null: none, or not read")]
    vfio_device: Annotated[Text, Meta(description="its file below /dev/vfio/devices; null: it is not on a vfio driver, or not read")]
    bridge: Annotated[bool, Meta(description="a bridge or port, which no VM is given")]
    vf: Annotated[bool, Meta(description="a virtual function of SR-IOV")]
    pf: Annotated[Text, Meta(description="address of the physical function, of a VF")]
    pcie_root: Annotated[Text, Meta(description="the root complex as the kernel names it, `pciDDDD:BB`; null: not known")]
    numa_node: Annotated[Number, Meta(description="NUMA node; null: none, or not read")]
    iommu_group: Annotated[Number, Meta(description="IOMMU group; null: none, or not read")]
    group_members: Annotated[Number, Meta(description="devices in that group, bridges and platform devices counted; null: not read")]
    smmu: Annotated[Text, Meta(description="the SMMU above it that the kernel uses, `smmu3.0x…`; null: none, or not known")]
    smmu_source: Annotated[Source, Meta(description="where `smmu` is known from; `assumed`: nobody measured it; `none`: unknown")]
    iommu_kind: Annotated[Text, Meta(description="smmuv3, smmuv2, intel, amd, virtio or other; null: no IOMMU, or not known")]
    stream_ids: Annotated[Text, Meta(description="StreamIDs, hexadecimal; null: not known")]
    stream_ids_source: Annotated[Source, Meta(description="where `stream_ids` is known from; `assumed`: nobody measured it; `none`: unknown")]
    accel: Annotated[Accel, Meta(description="whether a guest can own its stage 1 in hardware: yes, no, unknown")]
    accel_codes: Annotated[Text, Meta(description="codes of the findings that decide that; null with `yes`")]
    accel_reason: Annotated[Text, Meta(description="the first of them in words; null with `yes`")]
    assignable: Annotated[Switch, Meta(description="whether it can be given to a VM at all, with acceleration or without; null: not known")]
    todo_codes: Annotated[Text, Meta(description="codes of what has to be done before it can be given away; null: nothing")]
    free: Annotated[
        Switch,
        Meta(description="it can be accelerated, and nothing that the preparation script can't mend stands in the way; null: the verdict is unknown"),
    ]
    used_by: Annotated[Text, Meta(description="kinds of use by the host or a VM (mount, route, vm …), as far as they are known; null: none known")]
    oas: Annotated[Number, Meta(description="output address size of the SMMU in bits")]
    oas_source: Annotated[Source, Meta(description="where `oas` is known from; `assumed`: nobody measured it; `none`: unknown")]
    ssidsize: Annotated[Number, Meta(description="bits of a PASID that the SMMU takes")]
    ssidsize_source: Annotated[Source, Meta(description="where `ssidsize` is known from; `assumed`: nobody measured it; `none`: unknown")]
    ats: Annotated[Switch, Meta(description="whether this kernel uses ATS of the SMMU")]
    ats_source: Annotated[Source, Meta(description="where `ats` is known from; `assumed`: nobody measured it; `none`: unknown")]
    ril: Annotated[Switch, Meta(description="whether the SMMU takes range invalidation")]
    ril_source: Annotated[Source, Meta(description="where `ril` is known from; `assumed`: nobody measured it; `none`: unknown")]
    cmdqv: Annotated[Switch, Meta(description="whether the SMMU has virtual command queues (CMDQV)")]
    cmdqv_source: Annotated[Source, Meta(description="where `cmdqv` is known from; `assumed`: nobody measured it; `none`: unknown")]
    s2fwb: Annotated[Switch, Meta(description="whether the SMMU has S2FWB")]
    s2fwb_source: Annotated[Source, Meta(description="where `s2fwb` is known from; `assumed`: nobody measured it; `none`: unknown")]
    granules: Annotated[Text, Meta(description="page sizes of the SMMU's stage 1, of 4k, 16k, 64k; null: one of them was not measured")]
    canwbs: Annotated[Switch, Meta(description="whether the firmware promises coherency of its root complex (CANWBS)")]
    canwbs_source: Annotated[Source, Meta(description="where `canwbs` is known from; `assumed`: nobody measured it; `none`: unknown")]
    function_ats: Annotated[Switch, Meta(description="whether the function itself has ATS")]
    function_ats_source: Annotated[Source, Meta(description="where `function_ats` is known from; `assumed`: nobody measured it; `none`: unknown")]
    function_pasid: Annotated[Switch, Meta(description="whether the function itself has PASID")]
    function_pasid_source: Annotated[Source, Meta(description="where `function_pasid` is known from; `assumed`: nobody measured it; `none`: unknown")]
    flr: Annotated[Switch, Meta(description="whether it has a function level reset")]
    flr_source: Annotated[Source, Meta(description="where `flr` is known from; `assumed`: nobody measured it; `none`: unknown")]
    bar_bytes: Annotated[Number, Meta(description="bytes of its BARs together; null: not read")]
    link_speed: Annotated[Text, Meta(description="of its PCI Express link when it was recorded, for example `16GT/s`; null: no link, or not read")]
    link_width: Annotated[Number, Meta(description="lanes of that link")]
    link_speed_max: Annotated[Text, Meta(description="the most that the function can do")]
    link_width_max: Annotated[Number, Meta(description="lanes, likewise")]
    assumed: Annotated[Text, Meta(description="fields of the snapshot about this function that nobody measured; `*`: all of them; null: none")]


COLUMNS: tuple[str, ...] = tuple(field.encode_name for field in msgspec.structs.fields(Row))
"""Names of the columns, in order."""


def columns() -> Iterator[tuple[str, str, str]]:
    """Name, type (text, integer, boolean) and meaning of each column."""
    hints = get_type_hints(Row, include_extras=True)
    for field in msgspec.structs.fields(Row):
        kind, meta = get_args(hints[field.name])
        kinds = get_args(kind) if get_origin(kind) is not None else (kind,)
        name = "boolean" if bool in kinds else "integer" if int in kinds else "text"
        yield field.encode_name, name, meta.description


def rows_of(host: Host, snapshot: str | None = None) -> Iterator[Row]:
    """The rows of one host, in the order of its functions."""
    facts, identity = host.facts, host.facts.identity
    digest = host.digest
    product = " ".join(part for part in (identity.vendor, identity.product) if part)
    for function in host.functions.values():
        smmu = host.smmu_of(function)
        group = None if function.group is None else host.groups.get(function.group)
        yield Row(
            snapshot=None if snapshot is None else visible(snapshot),
            host=_shown(identity.host),
            hardware=_shown(identity.machine),
            recorded=_shown(facts.moment.time),
            recorded_by=_shown(facts.tool),
            digest=digest,
            product=_shown(product),
            kernel=_shown(facts.kernel.release),
            machine=_shown(facts.kernel.machine),
            page_size=host.page_size,
            **_what(function),
            **_where(host, function, smmu, group),
            **_verdict(host, function),
            **_supplied(smmu),
            **_capable(function, measured=not host.assumed.covers(f"functions.{function}.config")),
            assumed=_shown(" ".join(host.assumed.below(f"functions.{function}")) if host.assumed else None),
        )


def _shown(text: str | None) -> str | None:
    return visible(text) if text else None


def _what(function: Function) -> dict[str, Any]:
    facts = function.facts
    return {
        "function": facts.address,
        "vendor": _id(facts.vendor),
        "device": _id(facts.device),
        "subsystem_vendor": _id(facts.subsystem_vendor),
        "subsystem_device": _id(facts.subsystem_device),
        "class_": f"{function.class_code:06x}",
        "name": _shown(function.name),
        "driver": _shown(facts.driver),
        "vfio_device": _shown(" ".join(facts.vfio_dev)),
        "bridge": function.is_bridge,
        "vf": function.is_vf,
        "pf": facts.physfn,
    }


def _id(text: str | None) -> str | None:
    """Four digits at least: the kernel writes ``0x%04x``."""
    return None if text is None else f"{int(text, 16):04x}"


def _where(host: Host, function: Function, smmu: Smmu | None, group: Group | None) -> dict[str, Any]:
    return {
        "pcie_root": _root(function),
        "numa_node": function.numa_node,
        "iommu_group": function.group,
        "group_members": len(group.devices) if group is not None and group.members_known else None,
        "smmu": _shown(function.smmu),
        "smmu_source": function.smmu_source.source if function.smmu is not None else Source.NONE,
        "iommu_kind": None if smmu is None else smmu.kind,
        "stream_ids": " ".join(f"{stream:#x}" for stream in function.stream_ids) or None,
        "stream_ids_source": function.stream_source.source if function.stream_ids else Source.NONE,
    }


def _root(function: Function) -> str | None:
    """``pci0000:10``: the directory of the host bridge that the function's path begins with."""
    first = function.facts.path.split("/")
    return next((visible(part) for part in first if part.startswith("pci") and ":" in part), None)


def _verdict(host: Host, function: Function) -> dict[str, Any]:
    verdict = host.verdict(function.facts.address)
    stopped = any(map(stops, verdict.todo))
    return {
        "accel": verdict.accel,
        "accel_codes": " ".join(dict.fromkeys(reason.code for reason in verdict.reasons)) or None,
        "accel_reason": visible(verdict.reasons[0].what) if verdict.reasons else None,
        "assignable": verdict.assignable,
        "todo_codes": " ".join(dict.fromkeys(finding.code for finding in verdict.todo)) or None,
        "free": False if verdict.accel is Accel.NO or function.is_bridge or stopped else True if verdict.accel is Accel.YES else None,
        "used_by": _shown(" ".join(dict.fromkeys(use.kind for use in host.uses.get(function.facts.address, ())))),
    }


def _supplied(smmu: Smmu | None) -> dict[str, Any]:
    """What the SMMU above it gives, as this kernel uses it."""

    def known(name: str) -> Known:
        return Known(None) if smmu is None else smmu.known(name)

    found = {**_number_of("oas", known("oas")), **_number_of("ssidsize", known("ssidsize"))}
    for name in ("ats", "ril", "cmdqv", "s2fwb"):
        found |= _switch_of(name, known(name))
    sizes = {size: known(f"gran{size}") for size in GRANULES}
    return found | {
        "granules": " ".join(size for size, one in sizes.items() if one.proved) or None if all(one.measured for one in sizes.values()) else None
    }


def _number_of(name: str, known: Known) -> dict[str, Any]:
    value = known.value
    plain = isinstance(value, int) and not isinstance(value, bool)
    return {name: value if plain else None, f"{name}_source": known.source if plain else Source.NONE}


def _switch_of(name: str, known: Known) -> dict[str, Any]:
    return {name: None if not known.known else known.is_true, f"{name}_source": known.source if known.known else Source.NONE}


def _capable(function: Function, *, measured: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, capability in (("canwbs", "canwbs"), ("function_ats", "ats"), ("function_pasid", "pasid"), ("flr", "flr")):
        found |= _switch_of(name, function.known(capability))
    bars = sum(bar.size for bar in function.bars) if function.bars_known and (measured or function.facts.resource) else None
    return found | {"bar_bytes": bars} | _link(function, measured=measured)


def _link(function: Function, *, measured: bool) -> dict[str, Any]:
    """LNKSTA and LNKCAP (PCIe 6.0, 7.5.3.6 and 7.5.3.8). A VF's are zero, and where only parts of the space were told nothing is said."""
    express = caps.express(function.config)
    told = measured and express is not None and express.flr is not None
    now, most = (express.link, express.link_capable) if told and express is not None else (None, None)

    def speed(link: caps.Link | None) -> str | None:
        return link.speed if link is not None and link.width and link.speed != "unknown" else None

    return {
        "link_speed": speed(now),
        "link_width": (now.width or None) if now else None,
        "link_speed_max": speed(most),
        "link_width_max": (most.width or None) if most else None,
    }


def as_ndjson(rows: Iterable[Row]) -> str:
    """A JSON object a line (ndjson.org)."""
    return "".join(f"{msgspec.json.encode(row).decode()}\n" for row in rows)


def as_csv(rows: Iterable[Row]) -> str:
    """Records of RFC 4180, without the line of names. null is an empty field without quotes, which is PostgreSQL's NULL; no text is empty."""
    out = io.StringIO()
    writer = csv.writer(out)  # its own line end is RFC 4180's
    for row in rows:
        writer.writerow([_cell(value) for value in msgspec.structs.astuple(row)])
    return out.getvalue()


def csv_names() -> str:
    """The first line of a CSV file."""
    return ",".join(COLUMNS) + "\r\n"


def _cell(value: Any) -> str | int | None:
    return ("false", "true")[value] if isinstance(value, bool) else value
