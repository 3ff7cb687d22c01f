"""libvirt's own answer to each exported XML: valid by its schemas, and the devices that it makes of it are those of the plan."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from lxml import etree
from msgspec.structs import replace

from tests.export.test_qemu import by_hand
from tests.tools.hosts import E1000E, FIXTURES, NVME, host, plan, planned
from tests.tools.libvirt import Native, native, schemas
from tests.tools.qemu import require_firmware
from tests.tools.requests import NASTY, SETS, requests
from wizard.base.errors import UsageError
from wizard.export import libvirt_xml
from wizard.export.command import Option
from wizard.export.libvirt import QEMU_NS
from wizard.export.libvirt import libvirt_xml as export
from wizard.export.qemu import options
from wizard.export.spares import SPARES, spare_ports
from wizard.plan.model import VmPlan
from wizard.plan.request import DiskRequest, Layout, MachineRequest, NetworkRequest, NodeRequest, VmRequest
from wizard.rehearsal.qemu import rehearse

GIB = 1 << 30


def asked() -> dict[str, VmPlan]:
    """The plans of the QEMU tests, without what libvirt looks for on this very machine: /dev/net/tun and the host's NUMA nodes."""
    found = {}
    for name, request in SETS.items():
        found[name.replace(" ", "_")] = plan(replace(request, name=name, networks=(), notes='notes <&"\n')).vms[0]
    gpus = [f"00{segment}:01:00.0" for segment in ("08", "09", "18", "19")]
    nodes: tuple[NodeRequest, ...] = (NodeRequest(memory=4 * GIB, cpus="0-1"), NodeRequest(memory=4 * GIB, cpus="2-3"))
    nodes += tuple(NodeRequest(memory=0, initiator=f"dev{n}") for n in range(4) for _ in range(8))
    paths = ["/dev/disk/by-id/wwn-0x5, 0", "/dev/shm/a", *(f"/{text}" for text in NASTY if "\n" not in text and "\x1b" not in text)]
    found["disks"] = planned(NVME, disks=tuple(DiskRequest(path=path, format="qcow2" if "2" in path else "raw") for path in paths))
    found["grace"] = planned(*gpus, on=host("gb200"), assume_accel=True, memory=8 * GIB, cpus=4, numa=nodes)
    return found


@pytest.fixture(scope="module")
def answers() -> dict[str, Native]:
    plans = asked()
    # libvirt refuses a domain of type kvm on another architecture; it does not look at accel for it.
    xml = {name: export(made, domain_type="qemu").replace('mode="host-passthrough"', 'mode="maximum"') for name, made in plans.items()}
    changed = {f"added_{name}": added(text) for name, text in xml.items() if plans[name].vsmmus}
    changed |= {f"exchanged_{name}": added(text, without="hostdev") for name, text in xml.items() if plans[name].vsmmus}
    return native(xml | changed, sorted({device.host for made in plans.values() for device in made.devices}))


ADDED = """<devices>
<disk type="file" device="disk"><driver name="qemu" type="raw"/><source file="/added"/><target dev="vdzz" bus="virtio"/></disk>
<controller type="virtio-serial" index="0"/>
<controller type="scsi" index="0" model="virtio-scsi"/>
<rng model="virtio"><backend model="random">/dev/urandom</backend></rng>
</devices>"""


def added(xml: str, *, without: str | None = None) -> str:
    """A domain as somebody has edited it: devices without addresses, perhaps in place of the functions."""
    domain = etree.fromstring(xml)
    devices = at(domain, "devices")
    for gone in list(devices.iterfind(without)) if without else ():
        devices.remove(gone)
    for element in etree.fromstring(ADDED):
        devices.append(element)
    for override in domain.iterfind(f"{{{QEMU_NS}}}override") if without else ():
        domain.remove(override)
    return etree.tostring(domain, encoding="unicode")


def devices(argv: Iterable[str], *names: str) -> list[dict[str, Any]]:
    """The -device and -object values of a command line, of these drivers."""
    found = [json.loads(word) for word in argv if word.startswith("{")]
    return [one for one in found if one.get("driver", one.get("qom-type")) in names]


def ours(made: VmPlan, *names: str) -> list[dict[str, Any]]:
    """The same of our own command line."""

    def of(option: Option) -> dict[str, Any]:
        return dict(json.loads(option.as_json()))

    return [of(o) for o in options(made) if o.flag in ("-device", "-object") and of(o).get("driver", of(o).get("qom-type")) in names]


@pytest.mark.parametrize("name", asked())
def test_devices_are_those_of_the_plan(name: str, answers: dict[str, Native]) -> None:
    made, answer = asked()[name], answers[name]
    assert not answer.invalid
    assert not answer.refused
    names = {"pcie.0": "pcie.0"}

    def same(ours_: list[dict[str, Any]], theirs: list[dict[str, Any]], *keys: str) -> None:
        assert len(ours_) == len(theirs)
        for mine, other in zip(ours_, theirs, strict=True):
            names[mine["id"]] = other["id"]
            for key in keys:
                wanted: Any = mine.get(key)
                assert other.get(key) == (names[wanted] if key in ("bus", "primary-bus") else wanted), (name, key, mine, other)

    same(ours(made, "pxb-pcie"), devices(answer.argv, "pxb-pcie"), "bus", "addr", "bus_nr", "numa_node")
    reserves = ("bus-reserve", "mem-reserve", "pref64-reserve")
    ports = devices(answer.argv, "pcie-root-port")
    spare = len(spare_ports(made))  # libvirt alone has them, before all others
    same(ours(made, "pcie-root-port"), ports[spare:], "bus", "addr", "chassis", "port", *reserves)
    assert {port["bus"] for port in ports[:spare]} <= {"pcie.0"}
    numbers = [port["chassis"] for port in ports]
    assert len(numbers) == len(set(numbers))
    plain = [{k: v for k, v in one.items() if v != "auto"} for one in ours(made, "arm-smmuv3")]  # auto is an attribute left out
    same(plain, devices(answer.argv, "arm-smmuv3"), "primary-bus", "accel", "ats", "ril", "ssidsize", "oas", "cmdqv")
    functions = [{**one, "addr": one["addr"].replace(".0x0", "")} for one in ours(made, "vfio-pci")]  # libvirt writes 0x0 for 0x0.0x0
    same(functions, devices(answer.argv, "vfio-pci"), "bus", "addr", "multifunction", "iommufd", "ats", "rombar")
    same(ours(made, "virtio-blk-pci"), devices(answer.argv, "virtio-blk-pci"), "bus", "addr")
    # Which driver opens a file, and that its name comes out as it was.
    files = [(one["driver"], one["filename"]) for one in devices(answer.argv, "file", "host_device")]
    assert files == [(option.get("driver"), option.get("filename")) for option in options(made) if option.get("filename")]
    initiators = [(names[one["pci-dev"]], one["node"]) for one in ours(made, "acpi-generic-initiator")]
    assert initiators == [(one["pci-dev"], one["node"]) for one in devices(answer.argv, "acpi-generic-initiator")]
    viommu = devices(answer.argv, "virtio-iommu")
    assert [(one["granule"], one["aw-bits"], one["addr"]) for one in viommu] == (
        [(made.virtio_iommu.granule, made.virtio_iommu.aw_bits, hex(made.virtio_iommu.slot))] if made.virtio_iommu else []
    )
    machine = answer.argv[answer.argv.index("-machine") + 1].split(",")
    assert machine[0] == made.machine.type
    assert "acpi=on" in machine
    assert "gic-version=3" in machine
    assert (f"highmem-mmio-size={made.memory.mmio_window // 1024}K" in machine) is made.memory.mmio_written
    assert not any(word.startswith("iommu=") for word in machine)
    memory = [(one["size"], one.get("hugetlbsize")) for one in devices(answer.argv, "memory-backend-ram", "memory-backend-memfd")]
    wanted = [(node.memory, made.memory.hugepages) for node in made.memory.nodes if node.memory] or [(made.memory.size, made.memory.hugepages)]
    assert memory == wanted


@pytest.mark.parametrize("how", ["added", "exchanged"])
@pytest.mark.parametrize("name", [name for name, made in asked().items() if made.vsmmus and name != "numbers"])
def test_what_is_added_later_stays_away_from_the_vsmmus(name: str, how: str, answers: dict[str, Native]) -> None:
    """QEMU refuses an emulated device behind an accelerated vSMMU; libvirt takes the first free root port, wherever that is."""
    answer = answers[f"{how}_{name}"]
    assert not answer.refused
    kept = [disk for disk in devices(answer.argv, "virtio-blk-pci") if disk["bus"] != "pcie.0"]
    found = [*kept, *devices(answer.argv, "virtio-serial-pci", "virtio-scsi-pci", "virtio-rng-pci")]
    assert len(found) == SPARES
    ports = {port["id"]: port["bus"] for port in devices(answer.argv, "pcie-root-port")}
    assert {ports[one["bus"]] for one in found} == {"pcie.0"}


def test_no_room_for_spare_ports_is_said() -> None:
    """An expander that begins at bus 1 leaves pcie.0 none: UEFI would leave the spare ports dead."""
    made = plan(SETS["numbers"]).vms[0]
    assert min(bus.bus_nr for bus in made.buses) == 1
    assert spare_ports(made) == ()
    assert "give every device that you add an address" in libvirt_xml(made)
    assert "give every device that you add an address" not in libvirt_xml(plan(SETS["hot-plug"]).vms[0])


@pytest.mark.qemu
@pytest.mark.parametrize("name", ["hot-plug", "beside"])
def test_firmware_numbers_the_buses_as_predicted_with_spare_ports(name: str, qemu: Path) -> None:
    """The guest's addresses are the same behind both exports: spare ports get the bus numbers that are left."""
    made = plan(SETS[name]).vms[0]
    spares = spare_ports(made)
    assert len(spares) == SPARES
    report = rehearse(replace(made, ports=(*spares, *made.ports)), str(qemu), firmware=require_firmware())
    assert report.ok, report.findings
    assert [check.ok for check in report.checks if check.subject.startswith("spare")]


@settings(max_examples=200, deadline=None)
@given(by_hand)
def test_spare_ports_take_only_what_is_left(request: VmRequest) -> None:
    made = plan(request).vms[0]
    assume(made.ok)
    spares = spare_ports(made)
    again = replace(made, ports=(*made.ports, *spares))
    root = [port for port in again.ports if port.bus == "pcie.0"]
    slots = [one.slot for one in root] + [one.slot for one in again.buses] + [one.slot for one in again.disks] + [one.slot for one in again.networks]
    assert len(slots) == len(set(slots))
    assert all(0 < slot < 32 for slot in slots)
    chassis = [port.chassis for port in again.ports]
    assert len(chassis) == len(set(chassis))
    # Numbered last on pcie.0, and below every expander.
    assert sorted(root, key=lambda port: port.slot) == sorted(root, key=lambda port: port.secondary)
    assert all(spare.subordinate < bus.bus_nr for spare in spares for bus in made.buses)


@pytest.mark.parametrize("fixture", sorted(path.stem for path in FIXTURES.glob("*.json")))
def test_every_fixture_is_valid(fixture: str) -> None:
    schema = etree.RelaxNG(etree.parse(schemas() / "domain.rng"))
    on = host(fixture)
    endpoints = [address for address, function in on.functions.items() if not function.is_bridge and function.smmu][:24]
    for layout in Layout:
        made = planned(*endpoints, on=on, assume_accel=True, layout=layout, memory=4 * GIB, networks=(NetworkRequest(kind="bridge", source="br0"),))
        schema.assertValid(etree.fromstring(libvirt_xml(made)))


@settings(max_examples=100, deadline=None)
@given(requests)
def test_random_plans_are_valid(request: VmRequest) -> None:
    made = plan(request).vms[0]
    etree.RelaxNG(etree.parse(schemas() / "domain.rng")).assertValid(etree.fromstring(libvirt_xml(made)))


def at(tree: etree._Element, path: str) -> etree._Element:
    """The element there."""
    found = tree.find(path)
    assert found is not None, path
    return found


def test_text_is_kept_or_refused_by_name() -> None:
    for nasty in NASTY:
        made = plan(VmRequest(name="a", notes=nasty, disks=(DiskRequest(path=f"/{nasty}"),))).vms[0]
        if "\x1b" in nasty:
            with pytest.raises(UsageError, match=r"its notes has the character \\x1b"):
                libvirt_xml(made)
            continue
        if "\n" in nasty:
            with pytest.raises(UsageError, match="the disk disk0 has a line break"):
                libvirt_xml(made)
            continue
        tree = etree.fromstring(libvirt_xml(made))
        assert tree.findtext("description") == nasty
        assert at(tree, "devices/disk/source").get("file") == f"/{nasty}"


def test_what_libvirt_has_no_word_for_is_refused() -> None:
    for machine in (MachineRequest(gic="max"), MachineRequest(its=False)):
        with pytest.raises(UsageError, match="libvirt has no word"):
            libvirt_xml(planned(NVME, machine=machine))


def test_every_accelerated_vsmmu_has_its_bus_and_every_function_its_place() -> None:
    """What libvirt accepts and then cripples: accel without pciBus, a function without an address, iommufd left out."""
    for made in asked().values():
        tree = etree.fromstring(libvirt_xml(made))
        for iommu in tree.iterfind("devices/iommu[@model='smmuv3']"):
            driver = at(iommu, "driver")
            assert driver.get("accel") == "on"
            controller = at(tree, f"devices/controller[@index='{driver.get('pciBus')}']")
            assert controller.get("model") == "pcie-expander-bus"
        for hostdev in tree.iterfind("devices/hostdev"):
            assert hostdev.find("address") is not None
            assert at(hostdev, "driver").get("iommufd") == "yes"
        for controller in tree.iterfind("devices/controller[@model='pcie-expander-bus']"):
            assert at(controller, "target").get("busNr")


def test_the_domain_is_one_line_of_no_surprise() -> None:
    assert libvirt_xml(planned(NVME, E1000E)) == libvirt_xml(planned(NVME, E1000E))
    assert etree.fromstring(libvirt_xml(planned(NVME))).get("type") == "kvm"
