"""Redaction: Facts without serial numbers, addresses, UUIDs, secrets, and names of the host, its users, its volumes and its VMs.

What becomes of each field is decided here, once: ``DECISIONS`` names every field that can hold text. A field without a decision can't be
redacted (and fails the tests). A value is replaced by its pseudonym (``wizard.facts.pseudonym``), the same wherever it stands: in its own
field, in configuration space, in log lines, on the command line and in details. docs/snapshot.md says what stays, and how a shell script
comes to the same pseudonym.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from wizard.arch.pci import STANDARD_SPACE
from wizard.facts import configbytes
from wizard.facts import model as m
from wizard.facts.identifying import Cleaner, serial
from wizard.facts.model import Facts
from wizard.facts.moment import without_moment
from wizard.facts.pseudonym import Pseudonyms, Secrets, host_pseudonym, secrets_of


class _Site(msgspec.Struct, frozen=True):
    """What decisions are carried out with."""

    clean: Cleaner
    given: Pseudonyms
    serials: configbytes.Known


class Decision(msgspec.Struct, frozen=True):
    """What becomes of each text in a field, keys of a table included."""

    act: Callable[[_Site, str], str]
    stays: str = ""  # what of it stays, for docs/snapshot.md; empty: what ``act`` leaves of any text


def _keep(form: str, stays: str) -> Decision:
    """What has the form stays as it is; anything else there is a text like any other."""
    pattern = re.compile(form)
    return Decision(lambda site, text: text if pattern.fullmatch(text) else site.clean.text(text), stays)


def _ours(stays: str) -> Decision:
    return Decision(lambda _, text: text, stays)


_NAME = r"[\w.+:@~-]{1,64}"
ADDRESSES = _keep(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]", "addresses of functions")
NUMBERS = _keep(r"(?:0x)?[0-9A-Fa-f]{1,16}|[0-9A-Fa-f]{3}", "numbers")
BYTES = _ours("the bytes, which are all defined by a public specification or the kernel's ABI")
KERNEL_NAMES = _keep(_NAME, "names that the kernel gives: of drivers, modules, SMMUs, disks, devices of the platform")
TEXT = Decision(lambda site, text: site.clean.text(text))
PRODUCT = Decision(lambda site, text: site.clean.product(text), "names of vendor, product, board and firmware")
LINE = Decision(lambda site, text: site.clean.line(text))
DETAIL = Decision(lambda site, text: site.clean.detail(text))
OWNER = Decision(lambda site, text: "name-" + site.given.digits("name of a VM or network", text)[:8])
OUR_WORD = _ours("words of this program and names of errors")
KINDS = Decision(lambda site, text: site.clean.text(text.partition(m.IN_FILE)[0]), "kinds of text and files, without the names of the files")

DECISIONS: Mapping[type[msgspec.Struct], Mapping[str, Decision]] = {
    m.PciFunction: {
        "address": ADDRESSES,
        "path": _keep(r"(?:[\w.:-]+/)*[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]", "the place of a function below /sys/devices"),
        **dict.fromkeys(("vendor", "device", "class_", "revision", "subsystem_vendor", "subsystem_device", "sriov_vf_device", "boot_vga"), NUMBERS),
        "config": Decision(lambda site, text: configbytes.told(text, site.given, site.serials), "configuration space without vendors' own bytes"),
        "resource": _keep(r"(?:[0-9a-fx ]+\n?)*", "addresses and sizes of regions"),
        **dict.fromkeys(("driver", "driver_override", "iommu", "vfio_dev", "block"), KERNEL_NAMES),
        "modalias": _keep(r"pci:[0-9A-Fa-z]{1,80}", "the modalias"),
        **dict.fromkeys(("physfn", "virtfns"), ADDRESSES),
        "reset_method": _keep(r"[a-z_ ]{0,80}", "the ways to reset a function"),
        "net": Decision(lambda site, text: site.clean.interface(text), "names of interfaces that kernel or udev give"),
        "serial_number": Decision(lambda site, text: serial(text, site.given)),
        **dict.fromkeys(("vendor_name", "device_name", "class_name"), PRODUCT),
    },
    m.IommuDevice: dict.fromkeys(("name", "device", "driver", "members"), KERNEL_NAMES),
    m.Group: {
        "type": _keep(r"[A-Za-z-]{1,20}", "the type of a group's domain"),
        "devices": KERNEL_NAMES,
        "reserved_regions": _keep(r"(?:0x[0-9a-f]{1,16} 0x[0-9a-f]{1,16} [a-z-]{1,20}\n?)*", "reserved regions"),
    },
    m.TreeNode: {
        **dict.fromkeys(("path", "devices"), _keep(r"/?(?:[\w,.+:@~-]{1,64}/?){0,64}", "the place of a node in the device tree, and of its device")),
        **dict.fromkeys(
            ("properties", "unread"), _keep(r"[\w,.#-]{1,64}|[0-9a-f]*", "properties of the device tree that say who is behind which IOMMU")
        ),
    },
    m.Node: {"cpus": NUMBERS, "distance": NUMBERS, "hugepages": NUMBERS},
    m.Kernel: {
        "release": Decision(lambda site, text: site.clean.names(text), "the kernel's release, but for names of this host"),
        "version": TEXT,
        "machine": KERNEL_NAMES,
        "cmdline": Decision(lambda site, text: site.clean.command_line(text)),
        "config": _keep(r"CONFIG_\w{1,64}|[ymn]|-?\d{1,20}|0x[0-9a-f]{1,16}", "options of the kernel's configuration that matter here"),
        "modules": KERNEL_NAMES,
        "module_parameters": _keep(r"[a-z0-9_]{1,32}\.[a-z0-9_]{1,40}|[YN]|\d{1,9}|[0-9a-f:,]{0,512}|nvhe|protected|nested|none", "eight parameters"),
        "drivers": KERNEL_NAMES,
    },
    m.Identity: {"host": OUR_WORD, "machine": OUR_WORD, "digest": OUR_WORD, **dict.fromkeys(("vendor", "product", "board", "firmware"), PRODUCT)},
    m.HwInfo: {
        "address": ADDRESSES,
        "iova_ranges": _keep(r"(?:0x[0-9a-f]{1,16} 0x[0-9a-f]{1,16}\n?)*", "ranges of IOVAs"),
        **dict.fromkeys(
            ("error", "cmdqv_error", "iova_error", "nest_parent", "viommu", "viommu_cmdqv"), _keep(r"[A-Z0-9]{2,20}|ok", "names of errors")
        ),
        "step": OUR_WORD,
        **dict.fromkeys(("data", "cmdqv"), BYTES),
        "regions": NUMBERS,
        "members": ADDRESSES,
    },
    m.InUse: {"address": ADDRESSES, "kind": OUR_WORD, "detail": DETAIL, "owner": OWNER},
    m.Program: {
        "name": OUR_WORD,
        "path": TEXT,
        "version": KERNEL_NAMES,
        "properties": Decision(lambda site, text: site.clean.text(text), "what QEMU and libvirt say of the device types that plans use"),
        "error": TEXT,
    },
    m.FirmwareImage: dict.fromkeys(("descriptor", "executable", "nvram_template", "executable_format", "features", "machines"), TEXT),
    m.Assumption: {"path": TEXT, "why": TEXT},
    m.Policy: {"subject": KERNEL_NAMES, "accel": OUR_WORD, "reason": TEXT},
    m.Moment: {
        "time": _keep(r"[0-9TZ:.+-]{1,32}", "when it was recorded"),
        "hugepages_free": NUMBERS,
        "log": LINE,
        "open_devices": DETAIL,
        "its": ADDRESSES,
        "status": _keep(r"[0-9a-f:.]{0,64}", "bits of configuration space that move"),
    },
    Facts: {
        **dict.fromkeys(("format", "tool", "origin"), OUR_WORD),
        "rests_on": KINDS,
        "cpu_model": TEXT,
        "acpi": BYTES,
        "log": LINE,
        "limits": KERNEL_NAMES,
        "unread": TEXT,
    },
}


_MAC = re.compile(r"(?<![0-9A-Za-z:])(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?![0-9A-Za-z:])")


def redact(facts: Facts, secrets: Secrets) -> tuple[Facts, tuple[str, ...]]:
    """(Facts that can be given away, what was replaced: ``("1 host name", "2 MAC addresses")``).

    Redacted Facts come back as they are.
    """
    if facts.redacted:
        return facts, ()
    given = Pseudonyms(secrets.key)
    secrets = _also_of(facts, secrets)
    site = _Site(Cleaner(secrets, given), given, configbytes.Known(form for text in secrets.serials for form in _in_bytes(text)))
    done: Facts = _Carried(site).struct(facts)
    identity = msgspec.structs.replace(done.identity, digest=None)
    if secrets.key is not None:
        identity = msgspec.structs.replace(identity, host=host_pseudonym(secrets.key))
    return msgspec.structs.replace(done, redacted=True, identity=identity), given.report()


def cleaner(facts: Facts, secrets: Secrets) -> Callable[[str], str]:
    """What redaction makes of any other text about the same host: the paths and addresses of a VM. ``facts`` as they were read."""
    return Cleaner(_also_of(facts, secrets), Pseudonyms(secrets.key)).text


class _Carried:
    """Decisions being carried out. The same text in the same field has the same answer, found once: functions share most of theirs."""

    def __init__(self, site: _Site) -> None:
        self._site = site
        self._known: dict[int, dict[str, str]] = {}  # by a decision's id: ``DECISIONS`` keeps them all
        self._fields: dict[type, list[tuple[str, Decision | None, dict[str, str]]]] = {}

    def struct(self, value: Any) -> Any:
        """A struct with each of its fields as decided; the same one where nothing changes."""
        changes: dict[str, object] = {}
        for name, decision, known in self._fields.get(type(value)) or self._of(type(value)):
            before = getattr(value, name)
            if before is None or before is False or type(before) is int:
                continue
            # Of thousands of functions nearly every field is a text that was seen before.
            after = known.get(before) if type(before) is str else None
            if after is None:
                after = self._value(before, decision, known)
            if after is not before and after != before:
                changes[name] = after
        return msgspec.structs.replace(value, **changes) if changes else value

    def _of(self, kind: type) -> list[tuple[str, Decision | None, dict[str, str]]]:
        decisions = DECISIONS[kind]
        decided = [(name, decisions.get(name)) for name in kind.__struct_fields__]  # type: ignore[attr-defined]
        fields = self._fields[kind] = [(name, decision, self._known.setdefault(id(decision), {})) for name, decision in decided]
        return fields

    def _value(self, value: Any, decision: Decision | None, known: dict[str, str]) -> Any:
        if isinstance(value, str):
            found = known.get(value)
            if found is None:
                assert decision is not None, "a text that nobody decided about"
                found = known[value] = decision.act(self._site, value) if value else value
            return found
        if isinstance(value, tuple):
            return tuple([self._value(one, decision, known) for one in value]) if value else value
        if isinstance(value, dict):
            return {self._value(key, decision, known): self._value(one, decision, known) for key, one in value.items()}
        return self.struct(value) if isinstance(value, msgspec.Struct) else value


def _in_bytes(number: str) -> tuple[bytes, ...]:
    """How a serial number may stand among the bytes of configuration space."""
    return (number.encode(), number.lower().encode()) if len(number) > 5 and "\0" not in number else ()


def _also_of(facts: Facts, secrets: Secrets) -> Secrets:
    """With what the facts themselves say of the parts: a serial number that a capability holds may stand in a log line in another form."""
    serials = {function.serial_number for function in facts.functions if function.serial_number}
    for function in facts.functions:
        if len(function.config) > 2 * STANDARD_SPACE:
            serials.update(configbytes.numbers_in(function.config))
    # An address that one line writes with colons stands without them, or within a GUID, in the next.
    lines = (*facts.log, *facts.moment.log, facts.kernel.cmdline or "")
    macs = {found.lower() for line in lines for found in _MAC.findall(line)}
    return msgspec.structs.replace(secrets, serials=tuple(sorted(serials | set(secrets.serials))), macs=tuple(sorted(macs | set(secrets.macs))))


def digest(facts: Facts) -> str:
    """``sha256:…`` over the redacted Facts: which state of which host a plan was made for.

    Without what moves, and without who recorded it and whether iommufd was asked: the host is the same.
    """
    if facts.identity.digest:
        return facts.identity.digest
    if not facts.redacted:
        from wizard.facts.tree import DirectoryTree

        facts, _ = redact(facts, secrets_of(DirectoryTree("/", live=True), live=True) if facts.origin == "live" else Secrets())
    return digest_of_still(without_moment(facts))


def digest_of_still(facts: Facts) -> str:
    """The digest, of redacted Facts without their moment."""
    stable = msgspec.structs.replace(facts, tool="", origin="", rests_on=msgspec.UNSET, hw_info=())
    return "sha256:" + hashlib.sha256(msgspec.json.encode(stable, order="deterministic")).hexdigest()


def for_writing(facts: Facts, secrets: Secrets, *, redacted: bool = True) -> tuple[Facts, tuple[str, ...]]:
    """What ``record`` writes: redacted Facts and what was replaced; or raw ones that carry the digest of the redacted."""
    safe, report = redact(facts, secrets)
    if redacted or facts.redacted:
        return safe, report
    return msgspec.structs.replace(facts, identity=msgspec.structs.replace(facts.identity, host=safe.identity.host, digest=digest(safe))), ()
