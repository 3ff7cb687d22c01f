"""Nova, Proxmox VE, Incus, CDI and Slurm: each file by the rules of who reads it, of every fixture and of hosts with something odd."""

from __future__ import annotations

import configparser
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from msgspec.structs import replace

from tests.fleet.hosts import bound, fixture_names
from tests.tools.hosts import FIXTURES, host
from tests.tools.hosts import facts as fixture
from wizard.base.errors import InputError, UsageError, WizardError
from wizard.cli import consumers as words
from wizard.cli.main import main
from wizard.facts.model import Facts
from wizard.fleet.consumers import OF_HOST, OF_VM, Options, cdi, incus, nova, proxmox, slurm
from wizard.fleet.rows import rows_of
from wizard.host.build import host_of
from wizard.host.model import Host
from wizard.plan.model import VmPlan
from wizard.plan.planner import make_plan
from wizard.plan.request import FunctionRequest, Mode, Request, VmRequest

OPTIONS = Options(node="node1")
CDI = json.loads((Path(__file__).parent / "data" / "cdi.schema.json").read_text())
EVERY = pytest.mark.parametrize("name", fixture_names())


def one(facts: Facts, address: str, **values: Any) -> Facts:
    """The host with facts of one function replaced."""
    return replace(facts, functions=tuple(replace(f, **values) if f.address == address else f for f in facts.functions))


def offered(host: Host) -> set[str]:
    """By hand: endpoints known to be assignable and alone, that only the script's own work stands before."""
    found = set()
    for row in rows_of(host):
        group = host.groups.get(row.iommu_group) if row.iommu_group is not None else None
        stops = set((row.todo_codes or "").split()) & {"in-use", "pf-has-vfs", "in-use-by-vm", "session"}
        sure = {"*", "address", "vendor", "device", "iommu_group"}.isdisjoint((row.assumed or "").split())
        if not row.bridge and row.assignable and group is not None and not stops and sure:
            others = [a for a in group.devices if a != row.function and not (a in host.functions and host.functions[a].is_bridge)]
            found |= set() if others else {row.function}
    return found


# Nova ---------------------------------------------------------------------------------------------------------------------------------------


def specs(text: str) -> list[dict[str, str]]:
    """As Nova 34 takes them (nova/pci/devspec.py, nova/conf/pci.py): one JSON object each, these keys, these limits."""
    parser = configparser.RawConfigParser(strict=False, empty_lines_in_values=False)
    parser.read_string(text)
    assert parser.sections() == ["pci"]
    found = []
    for line in text.splitlines()[1:]:
        name, _, value = line.partition(" = ")
        assert name == "device_spec"
        assert "$" not in value  # oslo.config would substitute it
        spec = json.loads(value)
        assert set(spec) <= {"vendor_id", "product_id", "address", "managed", "live_migratable", "resource_class", "traits"}
        assert re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]", spec["address"])
        assert all(re.fullmatch(r"[0-9a-f]{4}", spec[key]) for key in ("vendor_id", "product_id"))
        assert {spec["managed"], spec["live_migratable"]} <= {"yes", "no"}  # strutils.bool_from_string, strict
        for trait in [spec["resource_class"], *spec.get("traits", "CUSTOM_").split(",")]:
            assert re.fullmatch(r"CUSTOM_[A-Z0-9_]{0,248}", trait)  # os_traits.normalize_name leaves it as it is
        found.append(spec)
    return found


@EVERY
def test_nova_takes_every_host(name: str) -> None:
    found = {spec["address"]: spec for spec in specs(nova.device_spec(host(name), OPTIONS).text)}
    assert set(found) == offered(host(name))
    for row in rows_of(host(name)):
        if row.function in found:
            traits = found[row.function].get("traits", "").split(",")
            assert ("CUSTOM_SMMU_ACCEL" in traits) is (row.accel == "yes")
            assert ("CUSTOM_SMMU_ATS" in traits) is (row.ats is True and row.ats_source != "assumed")


def test_nova_has_one_set_of_traits_for_the_vfs_of_one_pf() -> None:
    """nova/compute/pci_placement_translator.py: PlacementPciMixedTraitsException otherwise, and the compute service does not start."""
    facts = fixture("arm64-virt-canwbs")
    assert {spec.get("traits") for spec in specs(nova.device_spec(host_of(facts), OPTIONS).text) if spec["product_id"] == "10ca"} == {
        "CUSTOM_SMMU_ACCEL,CUSTOM_SMMU_OAS_44,CUSTOM_SMMU_RIL"
    }
    from wizard.facts.model import Policy

    ruled = replace(facts, policy=(Policy(subject="0000:11:10.2", accel="off", reason="ticket 4711"),))
    output = nova.device_spec(host_of(ruled), OPTIONS)
    vfs = {spec["address"]: spec.get("traits") for spec in specs(output.text) if spec["product_id"] == "10ca"}
    assert vfs == dict.fromkeys(("0000:11:10.0", "0000:11:10.2"), "CUSTOM_SMMU_OAS_44,CUSTOM_SMMU_RIL")
    assert any("only what all VFs of 0000:11:00.0 have" in remark for remark in output.remarks)


# Proxmox VE ---------------------------------------------------------------------------------------------------------------------------------


def sections(text: str) -> dict[str, list[dict[str, str]]]:
    """As PVE::SectionConfig and PVE::Mapping::PCI read it: the maps of each ID."""
    found: dict[str, list[dict[str, str]]] = {}
    pci = r"[a-f0-9]{4,}:[a-f0-9]{2}:[a-f0-9]{2}(?:\.[a-f0-9])?"
    for section in text.split("\n\n") if text else []:
        head, *properties = section.rstrip("\n").split("\n")
        assert re.fullmatch(r"[a-z][a-z0-9_-]+", head, re.I)  # pve-configid
        assert head not in found
        for line in properties:
            name, value = re.fullmatch(r"\t(\S+) (\S.*)", line).groups()  # type: ignore[union-attr]
            if name == "map":
                entry = dict(part.split("=", 1) for part in value.split(","))
                assert set(entry) == {"id", "iommugroup", "node", "path", "subsystem-id"}
                assert re.fullmatch(r"[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}", entry["id"])
                assert re.fullmatch(r"[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}", entry["subsystem-id"])
                assert re.fullmatch(rf"(?:{pci};)*{pci}", entry["path"])
                found.setdefault(head, []).append(entry)
            else:
                assert name == "description"
    return found


@EVERY
def test_proxmox_takes_every_host(name: str) -> None:
    rows = {row.function: row for row in rows_of(host(name))}
    found = sections(proxmox.mappings(host(name), OPTIONS).text)
    mapped = [entry["path"] for entries in found.values() for entry in entries]
    assert set(mapped) == {address for address in offered(host(name)) if rows[address].subsystem_vendor}
    assert len(mapped) == len(set(mapped))
    for section, entries in found.items():
        assert {rows[entry["path"]].accel.value for entry in entries} == {
            {"accel": "yes", "plain": "no", "unknown": "unknown"}[section.split("-")[0]]
        }
        for entry in entries:  # what assert_valid compares when a VM starts
            row = rows[entry["path"]]
            assert entry["id"] == f"{row.vendor}:{row.device}"
            assert entry["iommugroup"] == str(row.iommu_group)


def test_proxmox_compares_the_subsystem_so_one_that_is_not_known_is_left_out() -> None:
    facts = one(bound("h1"), "0000:14:00.0", subsystem_vendor=None, subsystem_device=None)
    output = proxmox.mappings(host_of(facts), OPTIONS)
    assert "0000:14:00.0" not in output.text
    assert any("0000:14:00.0) whose subsystem ID was not read" in remark for remark in output.remarks)


# CDI and Slurm ------------------------------------------------------------------------------------------------------------------------------


@EVERY
def test_cdi_and_slurm_have_the_functions_with_a_character_device(name: str) -> None:
    given = offered(host(name))
    rows = {row.function: row for row in rows_of(host(name)) if row.function in given and row.vfio_device}
    lines = [line for line in slurm.gres(host(name), OPTIONS).text.splitlines() if not line.startswith("#")]
    for line in lines:  # gres.conf(5): NodeName first; names without what Slurm takes for itself
        assert re.fullmatch(r"NodeName=node1 Name=smmu Type=(accel|plain|unknown)_[0-9a-f]{4}_[0-9a-f]{4} File=/dev/vfio/devices/vfio[0-9]+", line)
    assert sorted(line.rpartition("/")[2] for line in lines) == sorted(row.vfio_device or "" for row in rows.values())
    if not rows:
        with pytest.raises(UsageError, match=r"CDI takes no file without devices|no /dev/iommu"):
            cdi.spec(host(name), OPTIONS)
        return
    found = json.loads(cdi.spec(host(name), OPTIONS).text)
    jsonschema.validate(found, CDI)
    assert [device["name"] for device in found["devices"]] == list(rows)
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]/[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]", found["kind"])
    for device in found["devices"]:
        assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?", device["name"])  # pkg/parser, ValidateDeviceName
        assert device["containerEdits"]["deviceNodes"] == [{"path": f"/dev/vfio/devices/{rows[device['name']].vfio_device}", "permissions": "rw"}]
    assert found["containerEdits"]["deviceNodes"] == [{"path": "/dev/iommu", "permissions": "rw"}]


def test_a_device_without_an_iommu_is_never_given_away() -> None:
    facts = one(bound("h1"), "0000:14:00.0", vfio_dev=("noiommu-vfio7",))
    for output in (cdi.spec(host_of(facts), OPTIONS), slurm.gres(host_of(facts), OPTIONS)):
        assert "noiommu" not in output.text
        assert any(remark.startswith("Left out") and "0000:14:00.0" in remark for remark in output.remarks)
    unbound = host_of(one(bound("h1"), "0000:14:00.0", vfio_dev=(), driver="nvme"))
    for output in (cdi.spec(unbound, OPTIONS), slurm.gres(unbound, OPTIONS)):
        assert any("(0000:14:00.0) that have no character device" in remark for remark in output.remarks)
    with pytest.raises(UsageError, match="has no /dev/iommu"):
        cdi.spec(host_of(replace(bound("h1"), iommufd=False)), OPTIONS)


def test_slurm_s_features_are_what_every_smmu_supplies() -> None:
    def features(facts: Facts) -> set[str]:
        (line,) = re.findall(r"^#   NodeName=.*$", slurm.gres(host_of(facts), OPTIONS).text, re.M)
        found = re.search(r" Features=(\S+)", line)
        return set(found[1].split(",")) if found else set()

    assert features(bound("h1", ats=True, ssidsize=20, oas=48)) == {"smmu_accel", "smmu_ats", "smmu_ril", "smmu_ssidsize_20", "smmu_oas_48"}
    assert features(bound("h2", ril=False)) == {"smmu_accel", "smmu_oas_44"}
    assert features(fixture("grace-1s")) == set()  # nobody knows
    (counted,) = re.findall(r" Gres=(\S+)", slurm.gres(host_of(bound("h1")), OPTIONS).text)
    counts = {kind: int(count) for kind, count in (one.removeprefix("smmu:").rsplit(":", 1) for one in counted.split(","))}
    assert counts["accel_8086_10d3"] == 1
    assert sum(counts.values()) == len(offered(host_of(bound("h1"))))


# Incus --------------------------------------------------------------------------------------------------------------------------------------


def planned(facts: Facts, *functions: str, **values: Any) -> VmPlan:
    request = VmRequest(name="web", functions=tuple(FunctionRequest(host=address) for address in functions), **values)
    plan = make_plan(host_of(facts), Request(vms=(request,)))
    assert plan.ok, plan.errors
    return plan.vms[0]


def test_incus_gets_a_vm_without_a_vsmmu_or_says_what_is_lost() -> None:
    facts = bound("h1")
    plain = incus.profile(planned(facts, "0000:14:00.0", "0000:41:00.0", mode=Mode.NONE, memory=1536 << 20), host_of(facts), Options())
    value = yaml.safe_load(plain.text)
    assert value["config"] == {"limits.cpu": str(planned(facts, "0000:14:00.0").cpus), "limits.memory": "1536MiB"}
    assert list(value["devices"].values()) == [{"type": "pci", "address": "0000:14:00.0"}, {"type": "pci", "address": "0000:41:00.0"}]
    accelerated = planned(facts, "0000:14:00.0")
    with pytest.raises(UsageError, match="Incus makes no vSMMU"):
        incus.profile(accelerated, host_of(facts), Options())
    partial = incus.profile(accelerated, host_of(facts), Options(partial=True))
    assert any("Left out: the accelerated vSMMUs" in remark for remark in partial.remarks)
    gpu = one(facts, "0000:14:00.0", class_="0x030200")
    assert yaml.safe_load(incus.profile(planned(gpu, "0000:14:00.0", mode=Mode.NONE), host_of(gpu), Options()).text)["devices"] == {
        "dev0": {"type": "gpu", "gputype": "physical", "pci": "0000:14:00.0"}
    }


# All of them --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in OF_HOST if name != "nfd"])
def test_a_host_whose_functions_were_not_read_gives_no_file(name: str) -> None:
    unread = host_of(replace(bound("h1"), functions=(), unread={"/sys/bus/pci/devices": "absent"}))
    with pytest.raises(InputError, match="were not read"):
        OF_HOST[name](unread, OPTIONS)


def test_what_is_assumed_or_only_a_part_is_not_handed_out_as_the_whole(tmp_path: Path) -> None:
    from wizard.facts.model import Assumption

    for path in ("functions.0000:14:00.0.iommu_group", "functions.0000:14:00.0.device", "groups.*"):
        guessed = replace(bound("h1"), assumptions=(Assumption(path=path, why="nobody knows"),))
        output = nova.device_spec(host_of(guessed), OPTIONS)
        assert "0000:14:00.0" not in output.text
        assert any("only assumed" in remark and "0000:14:00.0" in remark for remark in output.remarks)
    some = replace(bound("h1"), origin="umockdev", unread={})
    for name in ("nova", "prometheus", "dra-slices"):
        assert any("holds only some functions" in remark for remark in OF_HOST[name](host_of(some), OPTIONS).remarks)


@pytest.mark.parametrize("make", [proxmox.mappings, slurm.gres, OF_HOST["dra-slices"], OF_HOST["nfd-nodefeature"]])
@pytest.mark.parametrize("node", ["", "a b", "a\nmap id=1", "ü", "-a"])
def test_a_node_s_name_reaches_no_file_unasked(make: Callable[[Host, Options], Any], node: str) -> None:
    with pytest.raises(WizardError):
        make(host_of(bound("h1")), Options(node=node))


def test_the_command_line_knows_the_formats_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(words.OF_HOST) == set(OF_HOST) - {"nfd"}
    assert set(words.OF_VM) == set(OF_VM)
    for name in ("cdi", "nova", "prometheus"):
        assert main(["--replay", str(FIXTURES / "vfio-arm64-virt-canwbs.json"), "engine", name]) == 0
        done = capsys.readouterr()
        assert done.out
        assert "Left out" in done.err or name == "prometheus"
