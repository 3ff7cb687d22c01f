"""From a finding to the field that causes it."""

from __future__ import annotations

from wizard.plan.properties import NAMES

# Which field a finding is about, by its code; the first part of a code that is found here wins.
_FIELD_OF = {
    "memory": "memory",
    "memlock": "user",
    "hugepage": "hugepages",
    "hugepages": "hugepages",
    "cpus": "cpus",
    "firmware": "firmware",
    "no-firmware": "firmware",
    "vm-name": "name",
    "uuid": "name",
    "target": "target",
    "qemu": "target",
    "plan-needs": "target",
    "user": "user",
    "mmio": "mmio_window",
    "gic": "gic",
    "no-msi": "gic",
    "accel-not-known": "assume_accel",
    "accel-assumed": "assume_accel",
    "property-unproven": "assume_accel",
    "accel": "mode",
    "virtio": "mode",
    "fell-back": "fall_back",
    "two-kinds": "mode",
    "vfio-behind": "mode",
    "ats": "property/ats",
    "auto-oas": "property/oas",
    "cmdqv": "property/cmdqv",
    "pasid": "property/ssidsize",
    "smmu-split": "layout",
    "split": "layout",
    "vsmmus-too-many": "layout",
    "hotplug": "hotplug/0",
    "path": "disk/0",
    "disk": "disk/0",
    "mac": "network/0",
    "network": "network/0",
    "tap": "network/0",
    "socket": "qmp",
    "no-functions": "functions",
    "numa": "memory",
    "vars": "firmware",
}


def field_of(code: str, subject: str, text: str, keys: list[str]) -> str | None:
    """The key of the field that causes a finding, among those that are there: by a property's name, its subject, its code."""
    if code.startswith(("property", "auto")):
        for name in NAMES:
            if name in text.split():
                found = next((key for key in keys if key.startswith("vsmmu/") and key.endswith(f"/{name}") and key.split("/")[1] in text), None)
                return found or f"property/{name}"
    if f"function/{subject}" in keys:
        return f"function/{subject}"
    if f"vsmmu/{subject}" in keys:
        return f"vsmmu/{subject}"
    parts = code.split("-")
    for length in range(len(parts), 0, -1):
        key = _FIELD_OF.get("-".join(parts[:length]))
        if key in keys:
            return key
    named = next((key for key in keys if key.startswith("function/") and key.partition("/")[2] in text), None)
    return named or ("mode" if "mode" in keys else None)
