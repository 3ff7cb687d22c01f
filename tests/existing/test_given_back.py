"""What a profile has no word for comes back: an imported domain, exported again, is valid, holds every part, and is read as the same VM."""

from __future__ import annotations

import re
import shlex

import pytest
from lxml import etree
from msgspec.structs import replace

from tests.existing.test_expected import opened
from tests.existing.test_round_trips import guest_of
from tests.tools.hosts import host, planned
from tests.tools.libvirt import schemas
from tests.tools.samples import ROWS
from wizard.base.errors import UsageError
from wizard.existing.load import read_vms
from wizard.export.libvirt import libvirt_xml
from wizard.export.qemu import qemu_argv, qemu_json, qemu_script
from wizard.plan.model import VmPlan
from wizard.plan.planner import make_plan
from wizard.plan.request import KeptLibvirt, KeptQemu, Request, VmRequest
from wizard.profile import read_profile, write_profile

DOMAINS = [name for name in ROWS if name.startswith("xml/") and name != "xml/curlew.xml"]
COMMANDS = ["qemu/kestrel.sh", "qemu/hobby.cmdline", "qemu/roc.sh", "qemu/shikra.sh", "qemu/kite@.service", "qemu/saker.sh"]


def plan_of(request: VmRequest, name: str) -> VmPlan:
    return make_plan(host(ROWS[name]["host"]), Request(vms=(replace(request, assume_accel=True),))).vms[0]


@pytest.mark.parametrize("name", DOMAINS)
def test_a_domain(name: str) -> None:
    """By way of the profile, as somebody takes a VM over."""
    before = opened(name).request
    request, findings = read_profile(write_profile(before))
    assert not findings
    assert request == before
    vm = plan_of(request, name)
    xml = libvirt_xml(vm)
    schema = etree.RelaxNG(etree.parse(schemas() / "domain.rng"))
    assert schema.validate(etree.fromstring(xml)), schema.error_log
    (again,) = read_vms(xml.encode(), "again")
    assert guest_of(plan_of(again.request, name), "again") == guest_of(vm, "again")
    assert kept(again.request) == kept(request)


def kept(request: VmRequest) -> set[str]:
    found = request.kept_libvirt
    assert found is not None
    # Quotes, CDATA and the order of attributes are lxml's own.
    texts = (re.sub(r"<!\[CDATA\[(.*?)\]\]>", r"\1", text) for text in (*found.domain, *found.devices, *found.inside))
    return {re.sub(r"xmlns:\w+=\S+?(?=[ />])", "", text).replace('"', "'").replace(" ", "") for text in texts}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_line(name: str) -> None:
    request, findings = read_profile(write_profile(opened(name).request))
    assert not findings
    vm = plan_of(request, name)
    argv = qemu_argv(vm)
    for text in request.kept_qemu.options if request.kept_qemu else ():
        words = shlex.split(text)
        assert any(argv[at : at + len(words)] == words for at in range(len(argv)))
    for text in request.kept_qemu.properties if request.kept_qemu else ():
        id, _, prop = text.partition(".")
        assert any(f"id={id}" in word and prop.replace(",", ",,") in word for word in argv)
    for form in (b"".join(word.encode() + b"\0" for word in argv), qemu_json(vm).encode()):
        (again,) = read_vms(form, "again")
        assert guest_of(plan_of(again.request, name), "qemu") == guest_of(vm, "qemu")


def test_what_was_kept_by_a_stranger_reaches_no_shell_and_no_parser() -> None:
    vm = planned("0000:14:00.0", kept_qemu=KeptQemu(options=("-rtc '$(reboot)'",)))
    assert "'$(reboot)'" in qemu_argv(vm)[-1] or qemu_argv(vm)[-1] == "$(reboot)"
    for text in ("rm -rf /", "-rtc a b", "-rtc 'a", ""):
        with pytest.raises(UsageError, match=r"\[passthrough.qemu\]"):
            qemu_argv(planned("0000:14:00.0", kept_qemu=KeptQemu(options=(text,))))
    for text in ("<a>", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "&lt;a/>"):
        with pytest.raises(UsageError, match=r"\[passthrough.libvirt\]"):
            libvirt_xml(planned("0000:14:00.0", kept_libvirt=KeptLibvirt(domain=(text,))))


def test_the_other_kind_of_export_says_what_it_leaves_out() -> None:
    vm = plan_of(opened("xml/tern.xml").request, "xml/tern.xml")
    assert "8 parts that only the other kind of export can give back are left out" in qemu_script(vm)
    assert "8 parts of the VM that it was imported from are given back unchecked" in libvirt_xml(vm)
