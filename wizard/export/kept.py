"""What an imported VM had that a profile has no word for: given back as it was, in the export of its own kind, and said to be unchecked.

It may come from a stranger, as a profile does: words are quoted anew for the shell. Nothing of it is understood here.
libvirt's part is ``kept_xml``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace

from wizard.base.errors import UsageError
from wizard.base.text import plural, visible
from wizard.export.command import Option
from wizard.plan.model import VmPlan

_PROPERTY = re.compile(r"([A-Za-z][A-Za-z0-9._-]*?)\.([A-Za-z][A-Za-z0-9_-]*)=(.*)", re.DOTALL)


def kept_options(vm: VmPlan) -> Iterator[Option]:
    """Options of the QEMU command line that the VM was imported from. Raises ``UsageError`` for one that is no option."""
    for text in vm.request.kept_qemu.options if vm.request.kept_qemu else ():
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise wrong(vm, "qemu", text, str(error)) from error
        if not words or not words[0].startswith("-") or len(words) > 2:
            raise wrong(vm, "qemu", text, "an option is a word that begins with -, and at most one more")
        yield Option(words[0], text=words[1]) if len(words) == 2 else Option(words[0])


def with_properties(vm: VmPlan, option: Option) -> Option:
    """A device with the properties that it had beside those of the plan; in key=value, since their types are not known."""
    if option.flag != "-device" or not vm.request.kept_qemu:
        return option
    added = []
    for text in vm.request.kept_qemu.properties:
        found = _PROPERTY.fullmatch(text)
        if found is None:
            raise wrong(vm, "qemu", text, "a property is written ID.NAME=VALUE")
        id = str(option.get("id"))
        if text.startswith(f"{id}.") and "=" in text[len(id) + 1 :]:
            name, _, value = text[len(id) + 1 :].partition("=")
            added.append((name, value))
    if not added:
        return option
    names = {name for name, _ in added}
    values = tuple(item for item in option.values if item[0] not in names)
    return replace(option, values=(*values, *added), plain=True)


def said_of_kept(vm: VmPlan, kind: str) -> str | None:
    """What an export says of what it gives back, and of what the other kind of export would."""
    qemu, libvirt = vm.request.kept_qemu, vm.request.kept_libvirt
    counts = {
        "qemu": len(qemu.options) + len(qemu.properties) if qemu else 0,
        "libvirt": len(libvirt.domain) + len(libvirt.devices) + len(libvirt.inside) if libvirt else 0,
    }
    own, other = counts.pop(kind), next(iter(counts.values()))
    said = [f"{plural(own, 'part')} of the VM that it was imported from {'is' if own == 1 else 'are'} given back unchecked"] if own else []
    if other:
        said.append(f"{plural(other, 'part')} that only the other kind of export can give back {'is' if other == 1 else 'are'} left out")
    return "; ".join(said) or None


def wrong(vm: VmPlan, table: str, text: str, because: str) -> UsageError:
    """For what was kept and can't be given back."""
    shown = visible(text if len(text) <= 60 else text[:60] + "…")
    return UsageError(
        f"VM {visible(vm.name)}: {shown} in [passthrough.{table}] can't be given back: {visible(because)}.",
        "Correct it in the profile, or take it out.",
    )
