"""virt-install's own XML of our options, held against our libvirt export: everything that one holds the other holds."""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lxml import etree
from msgspec.structs import replace

from tests.export.test_libvirt import asked
from tests.tools.cache import cache, skip_loudly
from tests.tools.hosts import E1000E, NVME, host, plan, planned
from tests.tools.processes import LIMIT
from tests.tools.requests import NASTY
from tests.tools.samples import DATA, ROWS
from wizard.base.errors import UsageError
from wizard.existing.load import read_vms
from wizard.export import libvirt_xml
from wizard.export.virt_install import OPTIONS, virt_install_argv, virt_install_script
from wizard.plan.model import VmPlan
from wizard.plan.request import DiskRequest, NetworkRequest

_NUMBER = re.compile(r"(0x[0-9a-f]+|[0-9]+)")
_CAPABILITIES = Path(__file__).parent / "data" / "aarch64-capabilities.xml"


def require_virt_install() -> Path:
    found = cache() / "virt-install" / "bin" / "virt-install"
    if not found.exists():
        skip_loudly("no virt-install", "scripts/debian-tools --with virt-install unpacks one")
    return found


def plans(place: Path) -> dict[str, VmPlan]:
    """The plans that libvirt is asked about, with disks that are there: virt-install looks."""
    names = [text.replace("/", "") for text in NASTY if not set(text) & set("\n\x1b")]
    for name in names:
        (place / name).touch()
    made = {name: replace(vm, disks=()) for name, vm in asked().items() if name in ("hot-plug", "virtio-iommu", "grace")}
    networks = (NetworkRequest(kind="bridge", source="br0"), NetworkRequest(kind="tap", source="tap0"), NetworkRequest(kind="user"))
    disks = (*(DiskRequest(path=str(place / name), format="qcow2" if "2" in name else "raw") for name in names), DiskRequest(path="/dev/null"))
    made |= {name: sample(name, place) for name in ("knot", "one-417", "tern")}
    made["all"] = planned(NVME, E1000E, disks=disks, networks=networks, notes='notes, of = two "words"\\', hugepages=2 << 20, qmp="/run/a b")
    return made


def sample(name: str, place: Path) -> VmPlan:
    """A domain of somebody else's, with what a profile has no word for, on images that are there."""
    image = place / f"{name}.qcow2"
    image.touch()
    text = re.sub(r"(<source (?:file|dev)=')[^']*'", rf"\g<1>{image}'", (DATA / f"xml/{name}.xml").read_text())
    (vm,) = read_vms(text.encode(), name)
    return plan(replace(vm.request, assume_accel=True), on=host(ROWS[f"xml/{name}.xml"]["host"])).vms[0]


def leaves(element: etree._Element, path: str = "") -> dict[str, str | int]:
    """Every attribute, text and empty element by its place; numbers are numbers, however they are written."""
    children = [child for child in element if isinstance(child.tag, str)]
    found: dict[str, str | int] = {f"{path}/@{name!s}": _plain(str(value)) for name, value in element.attrib.items()}
    text = str(element.text or "")
    text = text.strip() if children else text
    if text or not (found or children):
        found[path] = _plain(text)
    counts: dict[str, int] = {}
    for child in children:
        tag = str(child.tag)
        counts[tag] = counts.get(tag, 0) + 1
        found |= leaves(child, f"{path}/{tag}[{counts[tag]}]")
    return found


def _plain(text: str) -> str | int:
    return int(text, 0) if _NUMBER.fullmatch(text) and (text.startswith("0x") or str(int(text)) == text) else text


def test_virt_install_makes_what_our_libvirt_export_holds(tmp_path: Path) -> None:
    program = require_virt_install()
    # virt-install's own way to name a host that is not there: with the capabilities of an arm64 one, and the addresses of no daemon.
    uri = f"__virtinst_test__test:///default,caps={_CAPABILITIES},fakeuri=qemu:///system"
    made = plans(tmp_path)

    def asked_of(vm: VmPlan) -> subprocess.CompletedProcess[str]:
        words = [str(program), "--connect", uri, *virt_install_argv(vm)[1:], "--print-xml"]
        return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=LIMIT)

    with ThreadPoolExecutor(2) as several:
        for name, answer in zip(made, several.map(asked_of, made.values()), strict=True):
            assert answer.returncode == 0, (name, answer.stderr)
            wanted = leaves(etree.fromstring(libvirt_xml(made[name])))
            assert wanted.pop("/memory[1]/@unit") == "KiB"  # libvirt's default, and the one that virt-install leaves out
            script = virt_install_script(made[name])
            lost = {place for place in wanted if re.search(r"\{(?!http://libvirt\.org/schemas/domain/qemu/)", place)}
            assert ("LEFT OUT" in script) is bool(lost)
            assert leaves(etree.fromstring(answer.stdout)) == {place: value for place, value in wanted.items() if place not in lost}, name


def test_options_of_5_1_alone_are_used() -> None:
    """Those that are declared; the rest is --xml. A vSMMU's properties have no option in any release."""
    used = {word for vm in asked().values() for word in virt_install_argv(vm) if word.startswith("--")}
    fixed = {"--virt-type", "--name", "--metadata", "--memory", "--vcpus", "--arch", "--machine", "--xml", "--import", "--osinfo", "--noautoconsole"}
    none = {"--graphics", "--video", "--sound", "--rng", "--tpm", "--channel", "--input"}
    assert used <= set(OPTIONS) | fixed | none
    assert not any("accel" in name or "iommufd" in name for names in OPTIONS.values() for name in names)


def test_what_xml_cant_carry_is_refused_here_too() -> None:
    with pytest.raises(UsageError, match="the disk disk0 has a line break"):
        virt_install_argv(planned(NVME, disks=(DiskRequest(path="/a\nb"),)))
