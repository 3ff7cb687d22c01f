"""QEMU command lines: through a real shell, through a real QEMU, and against what was planned.

Stand-ins drop accel and its properties (QEMU refuses them without KVM): their values are parsed here, and tried on the emulated host.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from qemu.qmp import ExecuteError, QMPClient

from tests.tools.hosts import E1000E, FIXTURES, NVME, SMMU1, SMMU2, VF0, VF1, VIRTIO, changed, host, planned, vm
from tests.tools.processes import LIMIT
from tests.tools.qemu import require_firmware
from tests.tools.requests import NASTY, SETS, free, harmless, names, planned_ok, requests, without_contradiction
from wizard.existing.load import read_vms
from wizard.export import libvirt_xml, qemu_argv, qemu_json, qemu_script
from wizard.export.command import Option, keyed
from wizard.export.qemu import all_options, options, with_traces
from wizard.facts.model import Program
from wizard.plan.model import VmPlan
from wizard.plan.planner import make_plan
from wizard.plan.properties import Properties
from wizard.plan.request import (
    DiskRequest,
    FunctionRequest,
    HotplugRequest,
    Layout,
    MachineRequest,
    NetworkRequest,
    NodeRequest,
    Request,
    VmRequest,
    VsmmuRequest,
)
from wizard.profile import read_profile, write_profile
from wizard.rehearsal.process import running
from wizard.rehearsal.qemu import ask, rehearse
from wizard.rehearsal.report import Refused
from wizard.rehearsal.standin import stand_ins

GIB = 1 << 30


@pytest.mark.qemu
def test_qemu_listens_at_the_socket_and_warns_of_nothing(qemu: Path, tmp_path: Path) -> None:
    """Also where the path has a comma. QEMU 11.1 warns of -mon, and its successor is in no older one."""
    made = planned(NVME, qmp=f"{tmp_path}/a, b")
    (option,) = (option for option in options(made) if option.flag == "-qmp")
    words = [str(qemu), *option.words(), "-M", "none", "-nodefaults", "-display", "none", "-monitor", "stdio"]
    done = subprocess.run(words, input="info chardev\nquit\n", capture_output=True, text=True, timeout=LIMIT, check=True)
    assert f"unix:{tmp_path}/a, b,server=on" in done.stdout
    assert done.stderr == ""
    (again,) = read_vms("\0".join(qemu_argv(made)).encode() + b"\0", "cmdline")
    assert again.request.qmp == f"{tmp_path}/a, b"


@pytest.mark.qemu
def test_the_traces_are_events_of_qemu(qemu: Path) -> None:
    """QEMU starts with a warning where an event is not there, and says nothing of it later."""
    listed = subprocess.run([qemu, "-trace", "help"], capture_output=True, text=True, timeout=LIMIT, check=True).stdout.splitlines()
    words = [word for option in all_options(with_traces(planned(NVME))) for word in option.words()]
    named = [words[place + 1] for place, word in enumerate(words) if word == "-trace"]
    assert len(named) == 3
    assert set(named) <= set(listed)
    assert words[words.index("-msg") + 1] == "timestamp=on"


def test_a_vm_has_a_socket_of_its_own_unless_it_is_to_have_none() -> None:
    monitors = [option.text for option in options(planned(NVME)) if option.flag == "-qmp"]
    assert monitors == ["unix:/run/smmu-wizard/db1/qmp,server=on,wait=off"]
    without = planned(NVME, qmp="none")
    assert not [option for option in options(without) if option.flag == "-qmp"]
    again, findings = read_profile(write_profile(without, host()), name="db1.toml")
    assert not findings
    assert again.qmp == "none"


@pytest.mark.qemu
@pytest.mark.parametrize("name", SETS)
def test_everything_is_where_the_plan_says(name: str, qemu: Path) -> None:
    made = planned_ok(SETS[name])
    report = rehearse(made, str(qemu))
    assert report.ok, report.findings
    assert report.checks


@pytest.mark.qemu
@pytest.mark.parametrize("name", SETS)
def test_json_starts_the_same_machine(name: str, qemu: Path, tmp_path: Path) -> None:
    made = planned_ok(SETS[name])
    acted = stand_ins(made)
    for word in acted.json_words():
        assert not word.startswith("{") or json.loads(word)
    plain, typed = (asyncio.run(everything(str(qemu), words, str(tmp_path))) for words in (acted.words, acted.json_words()))
    assert len(plain) > 300
    assert plain == typed
    checks = asyncio.run(ask(made, str(qemu), acted.json_words(), str(tmp_path), booted=False))
    assert all(check.ok for check in checks)


async def everything(qemu: str, words: list[str], scratch: str) -> dict[str, Any]:
    """Every property of every device and object that the command line names, all the way down."""
    found: dict[str, Any] = {}

    async def walk(client: QMPClient, path: str) -> None:
        listed: Any = await client.execute("qom-list", {"path": path})
        for item in listed:
            below = f"{path}/{item['name']}"
            if item["type"].startswith("child<"):
                await walk(client, below)
                continue
            try:
                found[below] = await client.execute("qom-get", {"path": path, "property": item["name"]})
            except ExecuteError as error:  # a property that can only be set
                found[below] = str(error)

    async with running(qemu, words, scratch) as client:
        await walk(client, "/machine/peripheral")
        await walk(client, "/objects")
        found |= {name: await client.execute(name) for name in ("query-memdev", "query-name", "query-uuid", "query-cpus-fast")}
    for cpu in found["query-cpus-fast"]:
        del cpu["thread-id"]
    return found


@pytest.mark.qemu
@pytest.mark.parametrize("name", ["two SMMUs", "group without", "hot-plug", "numbers"])
def test_firmware_numbers_the_buses_as_predicted(name: str, qemu: Path) -> None:
    report = rehearse(planned_ok(SETS[name]), str(qemu), firmware=require_firmware())
    assert report.ok, report.findings
    assert any(check.subject.endswith("bus range") for check in report.checks)


@pytest.mark.qemu
@pytest.mark.parametrize(("window", "placed"), [(None, True), (512 * GIB, False)])
def test_firmware_gives_grace_gpus_their_bars(window: int | None, placed: bool, qemu: Path) -> None:
    """Four BARs of 256 GiB: the planned window holds them, half a TiB does not."""
    gpus = [f"00{segment}:01:00.0" for segment in ("08", "09", "18", "19")]
    made = planned(*gpus, on=host("gb200"), assume_accel=True, memory=8 * GIB, cpus=4, mmio_window=window, networks=(NetworkRequest(),))
    assert ("mmio-window-small" in {finding.code for finding in made.errors}) is not placed
    report = rehearse(made, str(qemu), firmware=require_firmware())
    assert report.ok is placed, report.findings


@pytest.mark.qemu
@pytest.mark.parametrize("fixture", sorted(path.stem for path in FIXTURES.glob("*.json")))
def test_every_fixture(fixture: str, qemu: Path) -> None:
    """All functions of an SMMU in one VM (no more than a machine holds), whatever the verdict: the topology stands by itself."""
    on = host(fixture)
    endpoints = [address for address, function in on.functions.items() if not function.is_bridge and function.smmu][:24]
    for layout in Layout:
        some = endpoints[:12] if layout is Layout.PER_FUNCTION else endpoints
        made = planned(*some, on=on, assume_accel=True, layout=layout, memory=4 * GIB, cpus=4)
        report = rehearse(made, str(qemu))
        assert report.ok, report.findings


@pytest.mark.qemu
@settings(max_examples=130, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])
@given(requests.map(without_contradiction))
def test_random_plans(qemu: Path, request_: VmRequest) -> None:
    made = make_plan(host(), Request(vms=(request_,))).vms[0]
    assume(made.ok)
    report = rehearse(made, str(qemu))
    assert report.ok, report.findings


def seldom(*values: Any) -> st.SearchStrategy[Any]:
    """Left to the planner, mostly."""
    return st.sampled_from([None] * 6 * len(values) + list(values))


by_hand = st.builds(
    VmRequest,
    name=st.just("edited"),
    functions=st.lists(
        st.builds(
            FunctionRequest, host=st.sampled_from([NVME, VF0, VF1, E1000E, VIRTIO]), id=seldom("dev7", "a.b-c_d", "pcie.0"),
            port=seldom("shared", "x"), port_slot=seldom(0, 5, 31, 32), chassis=seldom(0, 1, 7, 255), function=seldom(0, 1, 7), rom=st.booleans(),
        ),
        unique_by=lambda function: function.host, min_size=1, max_size=4,
    ).map(tuple),
    vsmmus=st.lists(
        st.builds(
            VsmmuRequest, id=st.sampled_from(["one", "two"]), smmu=st.sampled_from([SMMU1, SMMU2]), bus=seldom("left", "pcie.0"),
            bus_nr=st.one_of(st.none(), st.integers(0, 255)), slot=seldom(0, 1, 9, 31), numa_node=seldom(0, 1),
        ),
        unique_by=(lambda vsmmu: vsmmu.smmu, lambda vsmmu: vsmmu.id), max_size=2,
    ).map(tuple),
    hotplug=st.lists(
        st.builds(
            HotplugRequest, functions=st.sampled_from([(NVME,), (E1000E,)]), chassis=seldom(1, 9), bus_reserve=st.sampled_from([None, 0, 3, 255]),
            mem_reserve=seldom(0, 5000, 64 << 20, 3 << 30, 4 << 30), pref64_reserve=seldom(0, 5000, GIB, 1 << 40),
        ),
        max_size=2,
    ).map(tuple),
    machine=st.builds(MachineRequest, type=seldom("virt", "virt-10.2", "virt-5.2", "virt-5.1", "virt-99.0"), gic=st.sampled_from(["3", "2", "max"])),
    cpus=st.integers(1, 9),
    numa=seldom(
        (), (NodeRequest(memory=GIB, cpus="0-8"),), (NodeRequest(memory=GIB // 2, cpus="0"), NodeRequest(memory=GIB // 2, cpus="1-3")),
        (NodeRequest(memory=GIB, cpus="0-3"), NodeRequest(memory=0)),
    ),
    mmio_window=seldom(512 * GIB, 1 << 41, 3 << 40, GIB),
    disks=st.lists(st.builds(DiskRequest, path=st.sampled_from(["/d", "/e"]), slot=seldom(1, 3, 31)), max_size=2).map(tuple),
    networks=st.lists(st.builds(NetworkRequest, slot=seldom(1, 2)), max_size=1).map(tuple),
)  # fmt: skip


@pytest.mark.qemu
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])
@given(by_hand)
def test_what_the_rules_let_pass_of_edited_profiles_starts(qemu: Path, request_: VmRequest) -> None:
    """Numbers that a person wrote: nothing that QEMU refuses may be left to QEMU."""
    made = make_plan(host(), Request(vms=(request_,))).vms[0]
    assume(made.ok)
    report = rehearse(made, str(qemu))
    assert report.ok, report.findings


@pytest.mark.qemu
@pytest.mark.parametrize("name", ["two SMMUs", "auto"])
@pytest.mark.parametrize("as_json", [False, True])
def test_property_values_are_taken(name: str, as_json: bool, qemu: Path) -> None:
    """QEMU reads every property before it asks for KVM: nothing but KVM may be missing."""
    made = planned_ok(SETS[name])
    words = [word for option in _options(made) for word in option.words(as_json=as_json)]
    assert _said_by(qemu, words) == "SMMUv3 accel=on requires KVM with kernel-irqchip=on support"


@pytest.mark.qemu
@pytest.mark.parametrize("as_json", [False, True])
def test_memory_objects_are_taken(as_json: bool, qemu: Path) -> None:
    """Stand-ins leave out host nodes and hugepages; here QEMU reads them as they are written."""
    nodes = (NodeRequest(memory=GIB // 2, cpus="0", host_node=0), NodeRequest(memory=GIB // 2, cpus="1"))
    for hugepages in (None, 2 << 20):
        made = planned_ok(vm(NVME, numa=nodes, hugepages=hugepages))
        words = ["-machine", "none", "-nodefaults", "-display", "none"]
        words += [word for o in options(made) if str(o.get("qom-type")).startswith("memory-backend") for word in o.words(as_json=as_json)]

        async def started(words: list[str] = words) -> None:
            with tempfile.TemporaryDirectory() as scratch:
                async with running(str(qemu), words, scratch) as client:
                    await client.execute("query-version")

        missing = ""
        try:
            asyncio.run(started())
        except Refused as refused:
            missing = str(refused)
        # A machine without hugepages to spare can't back them; nothing but that may be missing.
        assert not missing or (hugepages and "Cannot allocate memory" in missing)


def _options(made: VmPlan) -> list[Option]:
    kept = ("pxb-pcie", "arm-smmuv3")
    return [option for option in options(made) if option.get("driver") in kept or option.flag in ("-machine", "-nodefaults", "-display")]


def _said_by(qemu: Path, words: list[str]) -> str:
    words = [word.replace(",pflash0=pflash0,pflash1=pflash1", "") for word in words]
    done = subprocess.run([str(qemu), *words, "-S"], capture_output=True, text=True, timeout=LIMIT, check=False)
    return done.stderr.strip().splitlines()[0].rpartition(": ")[2]


@settings(max_examples=150, deadline=None)
@given(names, free, free, free)
def test_the_shell_gives_qemu_every_word_as_it_was(name: str, path: str, notes: str, firmware: str) -> None:
    made = planned_ok(replace(SETS["hot-plug"], name=name, notes=notes, disks=(DiskRequest(path="/" + path.strip("/")),)), errors=True)
    made = replace(made, firmware=replace(made.firmware, code="/" + firmware) if made.firmware else None)
    with tempfile.TemporaryDirectory() as scratch:
        dump = Path(scratch) / "qemu dump"
        dump.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
        dump.chmod(0o755)
        made = replace(made, emulator=str(dump))
        script = Path(scratch) / "script"
        script.write_text(qemu_script(made), encoding="utf-8", newline="\n")
        done = subprocess.run(["bash", str(script), "-serial", "null"], capture_output=True, check=True, cwd=scratch, timeout=LIMIT)
        assert done.stdout.decode().split("\0")[:-1] == [*qemu_argv(made)[1:], "-serial", "null"]
        assert sorted(os.listdir(scratch)) == ["qemu dump", "script"]
    assert harmless(line for line in qemu_script(made).splitlines() if line.lstrip().startswith("#"))


@pytest.mark.qemu
@pytest.mark.parametrize("as_json", [False, True])
def test_qemu_reads_paths_and_names_as_they_were(as_json: bool, qemu: Path, tmp_path: Path) -> None:
    files = []
    for nasty in NASTY:
        path = tmp_path / nasty.replace("/", "_")
        path.write_bytes(bytes(512))
        files.append(str(path))
    made = planned_ok(vm(NVME, name="döner 1 漢字", disks=tuple(DiskRequest(path=path) for path in files)))
    words = ["-machine", "none", "-nodefaults", "-display", "none"]
    for option in options(made):
        if option.flag == "-name" or (option.flag == "-blockdev" and str(option.get("node-name")).startswith("disk")):
            words += option.words(as_json=as_json)

    async def ask() -> tuple[set[str], str]:
        with tempfile.TemporaryDirectory() as scratch:
            async with running(str(qemu), words, scratch) as client:
                nodes: Any = await client.execute("query-named-block-nodes")
                name: Any = await client.execute("query-name")
        return {node["file"] for node in nodes if node["drv"] == "file"}, name["name"]

    found, name = asyncio.run(ask())
    assert found == set(files)
    assert name == "döner 1 漢字"


@pytest.mark.qemu
@pytest.mark.parametrize("as_json", [False, True])
def test_a_device_of_the_host_is_taken_as_one(as_json: bool, qemu: Path) -> None:
    """The 'file' driver wants a regular file: /dev/zero stands for any device (a block device takes root); /dev/shm has files."""
    made = planned_ok(vm(NVME, disks=(DiskRequest(path="/dev/zero", readonly=True), DiskRequest(path="/dev/shm/a"))))
    storage = [option for option in options(made) if str(option.get("node-name")).startswith("disk") and option.get("filename")]
    assert [option.get("driver") for option in storage] == ["host_device", "file"]

    async def ask() -> Any:
        with tempfile.TemporaryDirectory() as scratch:
            words = ["-machine", "none", "-nodefaults", "-display", "none", *storage[0].words(as_json=as_json)]
            async with running(str(qemu), words, scratch) as client:
                return await client.execute("query-named-block-nodes")

    assert [(node["drv"], node["file"]) for node in asyncio.run(ask())] == [("host_device", "/dev/zero")]


@settings(max_examples=200, deadline=None)
@given(free)
def test_a_value_cannot_become_a_key(value: str) -> None:
    """get_opt_value() ends a value at a comma that is not doubled."""
    words = keyed("-name", ("guest", value), ("debug-threads", True)).words()
    rest = words[1].removeprefix("guest=")
    read = ""
    while rest:
        if rest.startswith(",,"):
            read, rest = read + ",", rest[2:]
        elif rest.startswith(","):
            break
        else:
            read, rest = read + rest[0], rest[1:]
    assert (read, rest) == (value, ",debug-threads=on")


def test_the_json_says_what_the_shell_says() -> None:
    for request in SETS.values():
        made = planned_ok(request)
        plain, typed = qemu_argv(made), json.loads(qemu_json(made))
        assert len(plain) == len(typed)
        for flag, (before, after) in zip(plain, zip(plain[1:], typed[1:], strict=True), strict=False):
            if flag not in ("-device", "-object", "-blockdev"):
                assert before == after
        accelerated = [json.loads(word) for word in typed if word.startswith("{") and json.loads(word).get("driver") == "arm-smmuv3"]
        for one in accelerated:
            # sources: qemu-command-line. accel is a bool, everything else a string, oas and ssidsize too.
            assert one["accel"] is True
            assert all(isinstance(value, str) for key, value in one.items() if key != "accel")


@pytest.mark.qemu
def test_a_qemu_that_never_answers_is_ended(tmp_path: Path) -> None:
    fake = tmp_path / "qemu"
    fake.write_text("#!/bin/sh\nexit 3\n")
    fake.chmod(0o755)

    async def go() -> None:
        async with running(str(fake), [], str(tmp_path)):
            pass

    with pytest.raises(Refused, match="ended with status 3"):
        asyncio.run(go())


def test_what_is_too_new_for_the_host_is_said_in_the_exports() -> None:
    """By the properties that the installed QEMU names: this one knows arm-smmuv3 as a device, and no accel."""
    old = Program(name="qemu", path="/usr/bin/qemu-system-aarch64", version="10.2.2", properties={"arm-smmuv3": {"smmu_per_bus": "true"}})
    virsh = Program(name="virsh", path="/usr/bin/virsh", version="11.10.0")
    made = planned(NVME, target="qemu=11.1", properties=Properties(cmdqv="off"), on=changed(programs=(old, virsh)))
    assert made.ok
    said = "the host has 10.2, for which this is too new: accel=on"
    for text in (qemu_script(made), libvirt_xml(made)):
        assert said in text
        assert "The host's libvirt is 11.10.0" in text
    assert said not in qemu_script(planned(NVME))
