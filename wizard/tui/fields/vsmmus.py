"""Fields of a VM's mode and of its vSMMUs."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from wizard.base.text import plural
from wizard.plan.model import VmPlan, VsmmuPlan
from wizard.plan.properties import AUTO, NAMES, Properties, declared
from wizard.plan.request import Layout, Mode, VmRequest, VsmmuRequest
from wizard.tui.fields.model import YES_NO, Change, Field, yes

PROPERTIES = "properties"
"""The key of the field that the properties of all vSMMUs are below."""


def vsmmu_fields(vm: VmRequest, planned: VmPlan | None, opened: frozenset[str]) -> Iterator[Field]:
    """Mode, layout, properties for all vSMMUs, and each vSMMU with what its properties come to."""
    section = "vSMMUs"
    yield Field(
        "mode",
        "mode",
        vm.mode,
        lambda v, t: replace(v, mode=Mode(t)),
        tuple(Mode),
        section=section,
        about="accel: nested translation by the hardware; virtio-iommu: software vIOMMU; none",
    )
    yield Field(
        "fall_back",
        "fall back",
        yes(vm.fall_back),
        lambda v, t: replace(v, fall_back=t == "yes"),
        YES_NO,
        section=section,
        note=f"came to {planned.mode}" if planned and planned.mode != vm.mode else "",
        about="whether a lower mode may be taken",
    )
    yield Field(
        "layout",
        "layout",
        vm.layout,
        lambda v, t: replace(v, layout=Layout(t)),
        tuple(Layout),
        section=section,
        about="one vSMMU for each SMMU, or for each function",
    )
    asked = ", ".join(f"{name} {wish}" for name, wish in vm.properties.asked())
    yield Field(
        PROPERTIES,
        "properties",
        asked or "as the host has it",
        section=section,
        note=_as_planned(planned),
        about="what every vSMMU can do: the richest that its SMMU is known to have, unless one is set here",
    )
    for name in NAMES:
        yield _property(f"property/{name}", name, vm.properties.of(name), None, _all(name), section, depth=1, fold=PROPERTIES)
    for vsmmu in planned.vsmmus if planned else ():
        key = f"vsmmu/{vsmmu.id}"
        shown = " ".join(f"{name} {one.written or '-'}" for name, one in vsmmu.properties())
        bus = planned.bus(vsmmu.bus) if planned else None
        behind = len(planned.devices_of(vsmmu)) if planned else 0
        yield Field(
            key,
            vsmmu.id,
            shown,
            note=f"{vsmmu.smmu or 'no SMMU'}, {plural(behind, 'function')}, bus {bus.bus_nr}" if bus else f"{vsmmu.smmu or 'no SMMU'}",
            section=section,
            about="enter shows its own settings",
        )
        if key in opened:
            written = next((one for one in vm.vsmmus if one.id == vsmmu.id), None)
            for name, one in vsmmu.properties():
                own = written.properties.of(name) if written else None
                yield _property(f"{key}/{name}", name, own, one.show(), _own(vsmmu, planned, name), section, depth=1)
            if vsmmu.smmu:
                yield Field(
                    f"{key}/split",
                    "split",
                    yes(vsmmu.smmu in vm.split),
                    _split(vsmmu.smmu),
                    YES_NO,
                    depth=1,
                    section=section,
                    about="one vSMMU for each function of this SMMU",
                )


def _as_planned(planned: VmPlan | None) -> str:
    """What the properties come to, where all vSMMUs have the same."""
    found = {" ".join(f"{name} {one.written or '-'}" for name, one in vsmmu.properties()) for vsmmu in planned.vsmmus} if planned else set()
    return found.pop() if len(found) == 1 else "each as below" if found else ""


def _property(
    key: str, name: str, wish: str | int | None, resolved: str | None, change: Change, section: str, depth: int = 0, fold: str = ""
) -> Field:
    one = declared(name)
    choices = ("default", *one.words) if one.words else ()
    value = "default" if wish is None else str(wish)
    note = (
        (f"comes to {resolved}" if resolved else "what each SMMU is known to have")
        if wish is None
        else (f"comes to {resolved}" if resolved and resolved != value else "")
    )
    return Field(
        key, name, value, change, choices, text="" if wish is None else str(wish), note=note, depth=depth, section=section, about=one.about, fold=fold
    )


def _wish(name: str, text: str) -> str | int | None:
    text = text.strip()
    if text in ("", "default"):
        return None
    if not declared(name).switch and text != AUTO:
        if not text.isdecimal() or int(text) > 64:
            raise ValueError("A number of bits, auto, or nothing for the default.")
        return int(text)
    return text


def _with(properties: Properties, name: str, wish: str | int | None) -> Properties:
    return replace(properties, **{name: wish})


def _all(name: str) -> Change:
    return lambda vm, text: replace(vm, properties=_with(vm.properties, name, _wish(name, text)))


def _own(vsmmu: VsmmuPlan, planned: VmPlan | None, name: str) -> Change:
    # A vSMMU that the planner made is written out first, with its functions: it has to stay the one that was meant.
    behind = {device.host for device in planned.devices_of(vsmmu)} if planned else set()

    def change(vm: VmRequest, text: str) -> VmRequest:
        wish = _wish(name, text)
        written = next((one for one in vm.vsmmus if one.id == vsmmu.id), None)
        if written is None:
            made = VsmmuRequest(id=vsmmu.id, smmu=vsmmu.smmu, bus=vsmmu.bus)
            vm = replace(vm, vsmmus=(*vm.vsmmus, made), functions=tuple(replace(f, vsmmu=vsmmu.id) if f.host in behind else f for f in vm.functions))
        return replace(
            vm, vsmmus=tuple(replace(one, properties=_with(one.properties, name, wish)) if one.id == vsmmu.id else one for one in vm.vsmmus)
        )

    return change


def _split(smmu: str) -> Change:
    return lambda vm, text: replace(vm, split=tuple(one for one in vm.split if one != smmu) + ((smmu,) if text == "yes" else ()))
