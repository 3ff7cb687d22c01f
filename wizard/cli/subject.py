"""What a person named on the command line: one function, one SMMU, or a part of a name."""

from __future__ import annotations

from collections.abc import Sequence

from wizard.base.address import Address
from wizard.base.errors import UsageError
from wizard.base.text import visible
from wizard.host.model import Function, Host, Smmu

_NAMED = 6  # functions that an error names before it only counts


def find_function(host: Host, text: str) -> Function:
    """The function a person named; UsageError when there is none."""
    try:
        address = str(Address.parse(text))
    except ValueError as error:
        raise UsageError(f"{visible(text)} is not a PCI address.", "Write it as DDDD:BB:DD.F, for example 0000:14:00.0.") from error
    if address not in host.functions:
        raise UsageError(f"This host has no function {address}.", "See them with `smmu-wizard list`.")
    return host.functions[address]


def find_smmu(host: Host, text: str) -> Smmu:
    """The SMMU a person named, by its whole name or its base; UsageError when there is none."""
    wanted = text.lower()
    for smmu in host.smmus.values():
        if wanted == smmu.name.lower() or (smmu.base is not None and wanted in (f"{smmu.base:#x}", f"{smmu.base:x}")):
            return smmu
    known = ", ".join(host.smmus) or "none"
    raise UsageError(f"This host has no SMMU {visible(text)}.", f"It has: {known}.")


def subject_of(host: Host, words: Sequence[str]) -> Function | Smmu:
    """The one function or SMMU that the words mean: its name, a part of it, or the wizard's filter. UsageError where that is none, or several."""
    from wizard.host.filter import Texts, matches, parse_filter

    text = " ".join(words)
    if text.lower().startswith(("smmu", "0x", "dmar", "ivhd", "iommu")) and ":" not in text:
        parts = [smmu for smmu in host.smmus.values() if text.lower() in smmu.name.lower()]
        return parts[0] if len(parts) == 1 else find_smmu(host, text)
    try:
        Address.parse(text)
    except ValueError:
        wanted, texts = parse_filter(text), Texts(host)
        found = [address for address in texts.order if matches(texts, address, wanted, None)] if wanted.words else []
        # A bridge is rarely what is meant where an endpoint has the same words.
        found = [address for address in found if not host.functions[address].is_bridge] or found
        if len(found) > 1:
            named = (f"{address} {host.functions[address].name}" for address in found)
            raise _several(text, list(named)) from None
        if len(found) == 1:
            return host.functions[found[0]]
        raise UsageError(
            f"{visible(text)} is not a PCI address, and no function of this host is called so.",
            "Write DDDD:BB:DD.F, for example 0000:14:00.0, or words that `smmu-wizard list` shows.",
        ) from None
    return find_function(host, text)


def _several(text: str, names: Sequence[str]) -> UsageError:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    what = f"{visible(text)} may be {len(names)} functions: {', '.join(map(visible, names[:_NAMED]))}{more}."
    return UsageError(what, f"Write more of it, or one address; `smmu-wizard list {visible(text)}` shows them.")
