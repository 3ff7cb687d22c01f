"""One row for each kind of function behind each SMMU of a host: what a baseline is made of, for databases.

``wizard.fleet.rows`` has a row for each function, with what the hardware has; these are made of summaries, so that an index gives them without
reading a snapshot, and say what a vSMMU could be given (``supplies_…``). Columns that both have mean the same. A host without any function
has one row, in which all of these are null, so that it counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from wizard.base.text import visible
from wizard.fleet.baseline import can_accelerate, oas_fault, vector_of
from wizard.fleet.entry import Entry, summary_of_entry
from wizard.fleet.summary import HostSummary, Pool
from wizard.plan.properties import NAMES

Text = str | None
Number = int | None


class HostRow(msgspec.Struct, frozen=True, kw_only=True):
    """Functions of one kind behind one SMMU of one host. Columns are added at the end, never renamed."""

    snapshot: Annotated[str, Meta(description="the file that it comes from")]
    host: Annotated[Text, Meta(description="the host's pseudonym; null: the snapshot does not say")]
    recorded: Annotated[Text, Meta(description="when the snapshot was made; null: it does not say")]
    digest: Annotated[Text, Meta(description="of the host's state")]
    product: Annotated[Text, Meta(description="vendor and product of the host")]
    kernel: Annotated[Text, Meta(description="release of its kernel")]
    machine: Annotated[Text, Meta(description="its architecture")]
    page_size: Annotated[Number, Meta(description="bytes of a page of its kernel")]
    memory: Annotated[Number, Meta(description="bytes of its memory; null: not read")]
    cpus: Annotated[Number, Meta(description="processors; null: not read")]
    qemu: Annotated[Text, Meta(description="version of the installed QEMU; null: none found")]
    vendor: Annotated[Text, Meta(description="vendor ID, four hexadecimal digits; null: the host has no function")] = None
    device: Annotated[Text, Meta(description="device ID, likewise")] = None
    class_: Annotated[Text, Meta(description="class code, six hexadecimal digits")] = msgspec.field(name="class", default=None)
    functions: Annotated[int, Meta(description="how many functions")] = 0
    vf: Annotated[bool | None, Meta(description="virtual functions")] = None
    to_make: Annotated[bool | None, Meta(description="VFs that are not there yet")] = None
    numa_node: Annotated[Number, Meta(description="NUMA node; null: none, or not read")] = None
    smmu: Annotated[Text, Meta(description="the SMMU above them; null: none, or not known")] = None
    iommu_kind: Annotated[Text, Meta(description="smmuv3, smmuv2, …; null: none, or not known")] = None
    accel: Annotated[Text, Meta(description="the verdict: yes, no, unknown")] = None
    code: Annotated[Text, Meta(description="code of the first finding against it; null: none")] = None
    blocked: Annotated[bool | None, Meta(description="needed by the host, or by VMs that have its VFs")] = None
    usable: Annotated[bool, Meta(description="can be accelerated, and its SMMU supplies a vSMMU that can be written: a baseline counts it")] = False
    supplies_ats: Annotated[Number, Meta(description="the richest ats of a vSMMU there, 0 or 1, measured; null unless `usable`")] = None
    supplies_ril: Annotated[Number, Meta(description="ril, likewise")] = None
    supplies_ssidsize: Annotated[Number, Meta(description="ssidsize in bits, likewise")] = None
    supplies_oas: Annotated[Number, Meta(description="oas in bits, likewise")] = None
    supplies_cmdqv: Annotated[Number, Meta(description="cmdqv, likewise")] = None
    granules: Annotated[Text, Meta(description="page sizes that the SMMU is known to have, of 4k, 16k, 64k")] = None


COLUMNS: tuple[str, ...] = tuple(field.encode_name for field in msgspec.structs.fields(HostRow))


def host_rows(entry: Entry) -> Iterator[HostRow]:
    """The rows of one host, in the order of its summary; one at least."""
    summary = summary_of_entry(entry)
    common: dict[str, Any] = {
        "snapshot": visible(entry.name),
        "host": _shown(entry.host),
        "recorded": _shown(entry.time),
        "digest": _shown(entry.digest),
        "product": _shown(summary.product),
        "kernel": _shown(summary.kernel),
        "machine": _shown(summary.machine),
        "page_size": summary.page_size,
        "memory": summary.memory,
        "cpus": summary.cpus,
        "qemu": _shown(summary.qemu),
    }
    if not summary.pools:
        yield HostRow(**common)
    for pool in summary.pools:
        yield HostRow(**common, **_of_pool(summary, pool))


def _of_pool(summary: HostSummary, pool: Pool) -> dict[str, Any]:
    smmu = summary.smmus[pool.smmu] if pool.smmu >= 0 else None
    usable = smmu is not None and can_accelerate(pool, assume=False) and oas_fault(smmu, assume=False) is None
    vendor, _, device = pool.ids.partition(":")
    found: dict[str, Any] = {
        "vendor": vendor,
        "device": device,
        "class_": f"{pool.class_code:06x}",
        "functions": len(pool.addresses),
        "vf": pool.vf,
        "to_make": pool.to_make,
        "numa_node": pool.numa_node,
        "accel": pool.accel,
        "code": pool.code,
        "blocked": pool.blocked,
        "usable": usable,
    }
    if smmu is not None:
        found |= {"smmu": _shown(smmu.name), "iommu_kind": smmu.kind, "granules": " ".join(smmu.granules) or None}
        if usable:
            found |= {f"supplies_{name}": value for name, value in zip(NAMES, vector_of(smmu, assume=False), strict=True)}
    return found


def _shown(text: str | None) -> str | None:
    return visible(text) if text else None


def ndjson(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The rows as text, some thousand at a time."""
    encoder = msgspec.json.Encoder()
    lines: list[bytes] = []
    for entry in entries:
        lines += [encoder.encode(row) for row in host_rows(entry)]
        if len(lines) >= 4096:
            yield b"\n".join(lines) + b"\n"
            lines = []
    if lines:
        yield b"\n".join(lines) + b"\n"
