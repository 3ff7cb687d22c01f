"""What ``match`` asks for: a profile without addresses, how many VMs of it, and devices by what they are.

The keys of a profile that do not belong to one host are read by the profile's own reader. Beside them:

    count = 4                     # VMs
    [[device]]                    # for each VM
    ids = "10de:2342"             # and/or class = "0302"
    count = 1
    vf = true                     # only VFs; false: none; left out: both
    [place]
    same_smmu = true              # all devices of a VM behind one SMMU; false: each behind another
    same_numa = true              # the same for NUMA nodes
    max_per_host = 2
    order = "spread"              # one VM on each host in turn; "pack": fill one host after the other
    [spare]
    per_host = 1                  # every host that is used keeps room for so many more
    total = 2                     # all hosts together keep room for so many more
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from wizard.base.finding import Area, Finding, Kind, Severity, define
from wizard.base.text import visible
from wizard.fleet.devicekind import DeviceKind, kind_of
from wizard.plan.request import VmRequest
from wizard.profile.kinds import BOOL, IDS, ValueKind, choice, number, text
from wizard.profile.lines import key_lines, line_of
from wizard.profile.read import parse, read_profile

FUNCTIONS_MAX = 64  # of one VM
VMS_MAX = 65536

BAD_VALUE = define(
    "match-request-value", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="{subject}, line {line}: {key} is {found}.",
    why="It has to be {allowed}.",
    fix="Write {allowed}.",
)  # fmt: skip
UNKNOWN_KEY = define(
    "match-request-key", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="{subject}, line {line}: there is no key {key}.",
    why="A key that nobody reads would have no effect, and nobody would notice.",
    fix="[{table}] has: {allowed}.",
)  # fmt: skip
ADDRESSES = define(
    "match-request-addresses", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="{subject}, line {line}: [{key}] names what only one host has.",
    why="A request for several hosts says what a device is (vendor and device, or class), not where it is.",
    fix="Write [[device]] with ids or class instead; for one host use `smmu-wizard plan` or `check`.",
)  # fmt: skip
NO_DEVICE = define(
    "match-request-no-device", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="{subject} asks for no device.",
    why="Without devices every host fits, and there is nothing to accelerate.",
    fix='Write [[device]] with ids = "VVVV:DDDD" or class = "CC", and count.',
)  # fmt: skip
CONTRADICTION = define(
    "match-request-contradiction", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="{subject}: same_smmu = true and same_numa = false contradict each other.",
    why="Functions behind one SMMU are on one NUMA node.",
    fix="Leave one of the two out.",
)  # fmt: skip


class Wish(msgspec.Struct, frozen=True):
    """Devices of one kind for each VM. ``vf``: True only VFs, False none, None both."""

    kind: DeviceKind
    count: int = 1
    vf: bool | None = None

    def __str__(self) -> str:
        return f"{self.count} × {self.kind}" + {True: " (VF)", False: " (no VF)", None: ""}[self.vf]


class FleetRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for several hosts. ``vm`` is the VM without its functions."""

    vm: VmRequest
    wishes: tuple[Wish, ...]
    count: int = 1
    same_smmu: bool | None = None
    same_numa: bool | None = None
    max_per_host: int | None = None
    spread: bool = False
    spare_per_host: int = 0
    spare_total: int = 0

    @property
    def functions(self) -> int:
        """How many functions one VM takes."""
        return sum(wish.count for wish in self.wishes)


_COUNT = number(1, VMS_MAX)
_DEVICE: Mapping[str, ValueKind] = {
    "ids": IDS,
    "class": text('a class such as "02", "0302" or "010802"', pattern=r"(0x)?([0-9a-fA-F]{2}){1,3}"),
    "count": number(1, FUNCTIONS_MAX),
    "vf": BOOL,
}
_PLACE: Mapping[str, ValueKind] = {
    "same_smmu": BOOL,
    "same_numa": BOOL,
    "max_per_host": _COUNT,
    "order": choice("pack", "spread"),
}
_SPARE: Mapping[str, ValueKind] = {"per_host": number(0, VMS_MAX), "total": number(0, VMS_MAX)}
_OURS = ("count", "device", "place", "spare")
_OF_ONE_HOST = ("host", "function", "vsmmu", "hotplug", "numa", "split", "allow_in_use", "qmp", "uuid")


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a request: that of a profile, without what only one host has, and with our own tables."""
    from wizard.profile.schema import schema as profile_schema

    found = profile_schema()
    properties = {name: value for name, value in found["properties"].items() if name not in _OF_ONE_HOST}
    properties |= {
        "count": dict(_COUNT.schema),
        "device": {"type": "array", "minItems": 1, "items": _object(_DEVICE)},
        "place": _object(_PLACE),
        "spare": _object(_SPARE),
    }
    return found | {
        "title": "smmu-wizard match request",
        "description": "VMs with devices by what they are, to be placed on any of several hosts.",
        "properties": properties,
        "required": ["device"],
    }


def _object(keys: Mapping[str, ValueKind]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {name: dict(kind.schema) for name, kind in keys.items()}}


def read_request(text_: str, name: str) -> tuple[FleetRequest | None, list[Finding]]:
    """The request, and everything that is wrong with it at once; None when anything is. ``InputError`` for what is no TOML."""
    shown = visible(name)
    data, text_ = parse(text_, shown)
    lines = key_lines(text_)
    vm, findings = read_profile(_without(text_, lines, (*_OURS, *_OF_ONE_HOST)), name=name)
    # A profile has a name; VMs of a fleet are numbered, and "vm" does for all of them.
    findings = [f for f in findings if "name" in data or not (f.code == "profile-missing-key" and f.what.endswith(" has no name."))]
    reader = _Reader(shown, lines, findings)
    for key in _OF_ONE_HOST:
        if key in data:
            findings.append(ADDRESSES.at(shown, line=line_of(lines, (key,)), key=key))
    wishes = tuple(wish for place, entry in enumerate(reader.entries(data)) if (wish := reader.wish(entry, place)) is not None)
    if "device" not in data:
        findings.append(NO_DEVICE.at(shown))
    place = reader.table(data.get("place", {}), ("place",), _PLACE)
    spare = reader.table(data.get("spare", {}), ("spare",), _SPARE)
    count = reader.value(("count",), data["count"], _COUNT) if "count" in data else 1
    if place.get("same_smmu") is True and place.get("same_numa") is False:
        findings.append(CONTRADICTION.at(shown))
    if any(finding.severity is Severity.ERROR for finding in findings):
        return None, findings
    request = FleetRequest(
        vm=vm if vm.name else msgspec.structs.replace(vm, name="vm"),
        wishes=wishes,
        count=count,
        same_smmu=place.get("same_smmu"),
        same_numa=place.get("same_numa"),
        max_per_host=place.get("max_per_host"),
        spread=place.get("order") == "spread",
        spare_per_host=spare.get("per_host", 0),
        spare_total=spare.get("total", 0),
    )
    return request, findings


def _without(text_: str, lines: Mapping[tuple[str | int, ...], int], keys: tuple[str, ...]) -> str:
    """The text with the statements of some keys and tables blanked: what is left keeps its line numbers."""
    begins: dict[int, str] = {}
    for path, begin in lines.items():
        if path:
            begins.setdefault(begin, str(path[0]))
    kept: list[str] = []
    blank = False
    for at, line in enumerate(text_.split("\n"), 1):
        blank = begins[at] in keys if at in begins else blank
        kept.append("" if blank else line)
    return "\n".join(kept)


class _Reader:
    """Our own tables; what is wrong goes to ``findings``."""

    def __init__(self, shown: str, lines: dict[tuple[str | int, ...], int], findings: list[Finding]) -> None:
        self.shown, self.lines, self.findings = shown, lines, findings

    def entries(self, data: Mapping[str, Any]) -> list[Any]:
        found = data.get("device", [])
        if isinstance(found, list) and all(isinstance(entry, dict) for entry in found):
            return found
        self._bad(("device",), found, "a list of tables [[device]]")
        return []

    def wish(self, entry: Mapping[str, Any], place: int) -> Wish | None:
        values = self.table(entry, ("device", place), _DEVICE)
        return Wish(kind_of(values.get("ids"), values.get("class")), values.get("count", 1), values.get("vf"))

    def table(self, found: Any, path: tuple[str | int, ...], keys: Mapping[str, ValueKind]) -> dict[str, Any]:
        if not isinstance(found, dict):
            self._bad(path, found, f"a table [{path[0]}]")
            return {}
        values: dict[str, Any] = {}
        for name, value in found.items():
            if name not in keys:
                line = line_of(self.lines, (*path, name))
                self.findings.append(UNKNOWN_KEY.at(self.shown, line=line, key=f"{path[0]}.{visible(name)}", table=path[0], allowed=", ".join(keys)))
            elif (read := self.value((*path, name), value, keys[name])) is not None:
                values[name] = read
        return values

    def value(self, path: tuple[str | int, ...], value: Any, kind: ValueKind) -> Any:
        read: Callable[[Any], Any] = kind.read
        try:
            return read(value)
        except (ValueError, TypeError):
            self._bad(path, value, kind.allowed)
            return None

    def _bad(self, path: tuple[str | int, ...], value: Any, allowed: str) -> None:
        shown = "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else visible(str(value))[:60]
        key = ".".join(str(part) for part in path if isinstance(part, str))
        self.findings.append(BAD_VALUE.at(self.shown, line=line_of(self.lines, path), key=key, found=shown, allowed=allowed))


__all__ = ["FleetRequest", "Wish", "read_request", "schema"]
