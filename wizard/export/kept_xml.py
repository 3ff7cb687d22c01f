"""What an imported domain had that a profile has no word for, put back into the XML of an export.

It may come from a stranger, as a profile does: each element is parsed without entities, and nothing of it is understood here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lxml import etree

from wizard.export.kept import wrong
from wizard.plan.model import VmPlan

_INSIDE = re.compile(r"([^@:\s]+?)(?:@([\w.:-]+))?: (.*)", re.DOTALL)
_STEP = re.compile(r"([\w.-]+)(?:\[([^\]]+)\])?")


def give_back(vm: VmPlan, domain: etree._Element, made: Mapping[str, etree._Element]) -> None:
    """Puts elements and attributes of the domain that the VM was imported from into an export; ``made`` has its devices by their ids."""
    kept = vm.request.kept_libvirt
    if kept is None:
        return
    devices = domain.find("devices")
    assert devices is not None
    for text in kept.domain:
        _merge(domain, _element(vm, text))
    for text in kept.devices:
        devices.append(_element(vm, text))
    for text in kept.inside:
        found = _INSIDE.fullmatch(text)
        if found is None:
            raise wrong(vm, "libvirt", text, "it is written PATH: ELEMENT or PATH@ATTRIBUTE: VALUE")
        path, attribute, value = found.groups()
        at = _at(domain, made, path)
        if at is None:
            continue  # the device is not in the VM any more
        if attribute is not None:
            at.set(attribute, value)
        else:
            at.append(_element(vm, value))


def _merge(domain: etree._Element, element: etree._Element) -> None:
    """An element of <domain> that the export has too takes the children of the kept one."""
    there = domain.find(str(element.tag))
    if there is None or element.tag in _MANY:
        domain.append(element)
        return
    for name, value in element.attrib.items():
        if name not in there.attrib:
            there.set(name, value)
    there.extend(list(element))


_MANY = {"seclabel", "launchSecurity"}


def _at(domain: etree._Element, made: Mapping[str, etree._Element], path: str) -> etree._Element | None:
    at: etree._Element | None = domain
    for step in path.split("/"):
        found = _STEP.fullmatch(step)
        if found is None or at is None:
            return None
        name, id = found.groups()
        if id is not None:
            at = made.get(id)
            continue
        child = at.find(name)
        at = child if child is not None else etree.SubElement(at, name)
    return at


def _element(vm: VmPlan, text: str) -> etree._Element:
    try:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_blank_text=True)
        if "<!DOCTYPE" in text:
            raise ValueError("it has a document type")
        return etree.fromstring(text, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise wrong(vm, "libvirt", text, str(error)) from error
