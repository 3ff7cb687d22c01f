"""``watch``: a real kernel's lines, a log that rotates, a flood, and a real QEMU's events."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.tools.hosts import NVME, host, planned
from tests.tools.processes import LIMIT, ending, wait_until
from tests.tools.promtool import check_metrics
from tests.tools.qemu import require_qemu
from tests.tools.schemas import validator
from tests.tools.vms import Vm, started
from wizard.existing.load import open_text, open_vms
from wizard.export.qemu import qemu_script
from wizard.profile import write_profile
from wizard.running.functions import Interrupts, State
from wizard.running.process import PROC, Process
from wizard.running.verify import World
from wizard.running.watch import watching
from wizard.running.watch.events import KernelEvents, Owner, propagated
from wizard.running.watch.places import Map, Places
from wizard.running.watch.prometheus import Textfile
from wizard.running.watch.records import Record, line
from wizard.running.watch.sources import Events, FileTail
from wizard.running.watch.states import Look, VmState, changes
from wizard.running.watch.watching import counted
from wizard.running.wire import Foreign

# Linux 7.2.13, a function of a VM that reads what its guest does not have (a guest with iommu.passthrough=1)
STAGE_2 = """\
[  812.113204] arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:
[  812.113231] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000140000000010
[  812.113242] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000020800000000
[  812.113251] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x00000040dead0000
[  812.113260] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x00000040dead0000
[  812.113281] arm-smmu-v3 arm-smmu-v3.0.auto: event: F_TRANSLATION client: 0000:14:00.0 sid: 0x1400 ssid: 0x0 iova: 0x40dead0000 ipa: 0x40dead0000
[  812.113290] arm-smmu-v3 arm-smmu-v3.0.auto: unpriv data read s2 "Input address caused fault" stag: 0x0"""


def laid_out(**values: Any) -> Map:
    """The map of a VM that runs, by its command line, on the recorded host."""
    return Places(host).of(vm(name="web", guest=open_text("web.sh", qemu_script(planned(NVME, name="web", **values)))[0].guest))


def reader(owner: Owner | None = None) -> KernelEvents:
    owner = owner or Owner("web", laid_out(memory=768 << 20))
    return KernelEvents(lambda function: owner, lambda device, stream: None, lambda device: "smmu3.0x000000000c000000")


def test_a_fault_of_stage_2_is_the_guests_and_its_address_is_placed() -> None:
    events = reader()
    found = list(events.read(STAGE_2.splitlines()))
    assert found == [], "its end may still come"
    (one,) = events.flush()
    assert (one.kind, one.vm, one.function, one.stream, one.stage, one.address) == (
        "F_TRANSLATION",
        "web",
        "0000:14:00.0",
        "0x1400",
        2,
        "0x40dead0000",
    )
    assert one.place is not None
    assert one.place.startswith("about 257.7G beyond the end of the guest's memory")
    assert (one.layout, one.stamp) == ("its command line", "812.113260")
    assert "0000:14:00.0" in line(one)


def test_cut_anywhere_the_same_is_told() -> None:
    lines = STAGE_2.splitlines()
    for cut in range(1, len(lines)):
        events = reader()
        found = [*events.read(lines[:cut]), *events.read(lines[cut:]), *events.flush()]
        assert [(one.kind, one.stage, one.count) for one in found] == [("F_TRANSLATION", 2, 1)], cut


def test_a_record_whose_end_comes_late_is_told_once() -> None:
    """Whoever prints it was held up for longer than the end of a record is waited for; what follows is another record."""
    lines = STAGE_2.splitlines()
    for cut in range(1, len(lines)):
        events = reader()
        found = [*events.read(lines[:cut]), *events.flush(), *events.read(lines[cut:]), *events.flush()]
        found += [*events.read(lines), *events.flush()]
        assert [one.kind for one in found] == ["F_TRANSLATION"] * 2, cut
        assert not events.waits


def test_in_a_flood_nothing_waits_for_its_end() -> None:
    """Lines without a pause between them: each batch tells all but the last record of each SMMU, and other messages between its lines split none."""
    events, lines = reader(), STAGE_2.splitlines()
    other = ["[  812.113265] vfio-pci 0000:15:00.0: resetting"]
    told = []
    for _ in range(3):
        found = list(events.read([*lines[:3], *other, *lines[3:]]))
        told += [len([*found, *events.whole()])]
    assert told == [0, 1, 1]
    assert len(list(events.flush())) == 1


def test_every_event_of_a_recorded_host_is_told_once() -> None:
    """The log of a Linux on QEMU under a device tree, whose own function was not mapped: 3 events, as the kernel counts them by their first lines."""
    log = json.loads((Path(__file__).parents[1] / "host/data/device-tree/arm64-dt-noncoherent.json").read_text())
    lines = next(value for value in _values(log) if isinstance(value, list) and any("event 0x10 received" in str(one) for one in value))
    expected = Counter(match[1] for text in lines if (match := re.search(r"event: \w+ client: (\S+)", text)))
    events = reader(Owner())
    found = [one for one in (*events.read(lines), *events.flush()) if one.stream is not None]
    assert Counter(one.function for one in found for _ in range(one.count)) == expected
    assert all(one.vm is None and one.place is None for one in found)


def _values(data: object) -> list[object]:
    """Every value in nested data."""
    if isinstance(data, dict):
        return [data, *(inner for value in data.values() for inner in _values(value))]
    return [data]


# QEMU's hw/arm/virt.c: base_memmap (VIRT_PCIE_MMIO, VIRT_MEM); virt_set_high_memmap() for the window of 512 GiB behind 256 GiB, aligned to itself.
# MSI_IOVA_BASE of drivers/iommu/arm/arm-smmu-v3 is 0x8000000, and QEMU's RMR 0x8000000 to 0x80fffff.
PLACES = [
    (0x0804_0000, None, "in the MSI window, which the guest did not map"),
    (0x0804_0000, 2, "in the MSI window, of which the host maps one page"),
    (0x0900_0000, 2, "880M below the guest's memory, among QEMU's own devices"),
    (0x1000_0000, 2, "768M below the guest's memory, in its window of 32-bit BARs"),
    (0x4000_0000, 2, "in the guest's memory, 0 from its start, but not mapped"),
    (0x4010_0000, 2, "in the guest's memory, 1M from its start, but not mapped"),
    (0x7000_0000, 2, "right beyond the end of the guest's memory"),
    (0x7020_0000, 2, "2M beyond the end of the guest's memory, which is the last that the host maps"),
    (0x40_DEAD_0000, 2, "about 257.7G beyond the end"),
    (0x80_0010_0000, 2, "in the guest's window of 64-bit BARs, 1M from its start"),
]


def test_where_an_address_lies_in_a_vm_as_it_was_found() -> None:
    found = laid_out(memory=768 << 20)
    for address, stage, said in PLACES:
        assert said in found.where(address, stage), hex(address)


def test_a_profile_says_more_than_a_command_line_and_names_what_to_ask(tmp_path: Path) -> None:
    """The profile has 2 GiB: what the command line of the same name has is not asked."""
    path = tmp_path / "web.toml"
    path.write_text(write_profile(planned(NVME, name="web", memory=2 << 30), host()))
    found = Places(host, open_vms(str(path))).of(vm(name="web"))
    assert found.where(0x7000_0000, 2).startswith("in the guest's memory, 768M from its start")
    assert found.command(NVME, 0x7000_0000) == f"smmu-wizard dry-run {path} --trace {NVME}@0x70000000"
    other = Places(host, open_vms(str(path))).of(vm(name="other"))
    assert other.where(0x7000_0000, 2) == "where it lies is not known: its command line was not read"


def test_the_same_access_on_the_simulated_smmu() -> None:
    """What the kernel printed in the host's log for this access (STAGE_2: F_TRANSLATION at stage 2) is what the simulated SMMU says of it."""
    played = list(laid_out(memory=768 << 20).played(NVME, 0x40_DEAD_0000))
    before = [text for text in played if text.startswith("before the guest programs anything, read")]
    assert len(before) == 1
    assert "F_TRANSLATION" in before[0]


def test_what_the_kernel_did_not_print_is_said() -> None:
    events = reader()
    found = list(events.read(["[  900.000001] arm_smmu_evtq_thread: 1234 callbacks suppressed"]))
    found += events.read(["[  900.000002] arm-smmu-v3 arm-smmu-v3.0.auto: EVTQ overflow detected -- events lost"])
    assert [(one.kind, one.count) for one in found] == [("lost", 1234), ("lost", 1)]


def test_a_fault_that_qemu_hands_to_its_guest_is_in_its_log() -> None:
    """QEMU 11.1.2's trace event, as its log back end writes it."""
    line = "smmuv3_propagate_event SMMU_EVT_F_TRANSLATION sid=0x900"
    expected = planned(NVME, name="web").devices[0].vsid
    assert expected == 0x900, "docs/sources/running.md has it of a real VM of this plan"
    for before, stamp in (("", None), ("2026-11-30T08:40:33.415154Z ", "2026-11-30T08:40:33.415154Z"), ("4711@1789.000042:", "1789.000042")):
        (one,) = propagated([before + line, "smmuv3_trigger_irq irq=1"], "web", laid_out())
        assert (one.kind, one.stream, one.stage, one.vm, one.function, one.stamp) == ("F_TRANSLATION", "0x900", 1, "web", NVME, stamp)
    (one,) = propagated(["smmuv3_propagate_event SMMU_EVT_F_TRANSLATION sid=0x1100"], "web", laid_out())
    assert one.function is None, "no function of the plan has this StreamID"


@pytest.mark.parametrize("way", ["renamed", "truncated"])
def test_a_log_that_rotates_loses_nothing(way: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\n")
    tail = FileTail(path)
    with path.open("a") as file:
        file.write("one\ntw")
    assert tail.lines() == ["one"]
    if way == "renamed":
        with path.open("a") as file:
            file.write("o\nthree\n")
        path.rename(tmp_path / "log.1")
    else:
        assert tail.lines() == []
        os.truncate(path, 0)
    path.write_text("four\n")
    assert tail.lines() == (["two", "three", "four"] if way == "renamed" else ["tw", "four"])


def test_what_was_not_read_yet_is_read_when_the_log_has_rotated(tmp_path: Path) -> None:
    """More lines wait in the old log than are read at once: the new one is begun when all of them were."""
    path = tmp_path / "log"
    path.write_text("")
    tail = FileTail(path)
    path.write_text("".join(f"{number}\n" for number in range(20_000)))
    path.rename(tmp_path / "log.1")
    path.write_text("new\n")
    found: list[str] = []
    while batch := tail.lines():
        found += batch
    assert found == [*map(str, range(20_000)), "new"]


def test_a_look_that_takes_its_time_holds_no_event_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred VMs, a QEMU that does not answer: while the look goes on (here: until the event was told) events are told."""
    log, told = tmp_path / "log", threading.Event()
    log.write_text("")
    monkeypatch.setattr(watching, "LOOK", 0.0)
    watch = watching.Watch(World(proc=tmp_path, sys=tmp_path), log=log, take_qmp=False)
    watch.begin()
    looked = watch._looked

    def slow() -> Look:
        assert told.wait(LIMIT)
        return looked()

    monkeypatch.setattr(watch, "_looked", slow)
    batches = watch.records(told.is_set)
    assert next(batches) == [], "a look has begun"
    log.write_text(STAGE_2 + "\n")
    found = next(batch for batch in batches if batch)
    assert [one.kind for one in found] == ["F_TRANSLATION"]
    told.set()
    assert list(batches) == []
    watch.close()


def test_a_flood_is_counted_and_loses_nothing() -> None:
    one = Record(at="", source="kernel", kind="F_TRANSLATION", text="", vm="web", function="0000:14:00.0")
    found = counted([one] * 100_000 + [Record(at="", source="qemu", kind="RESET", text="", vm="web")])
    assert len(found) == 22
    assert sum(record.count for record in found) == 100_001


def vm(**changed: object) -> VmState:
    process = Process(pid=7, started=1, pinned=768 << 20, event_queues=0, held=())
    base = {"name": 'we"b', "pid": 7, "started": 1, "memory": 768 << 20, "qmp": None, "libvirt": False, "accelerated": 1, "process": process}
    return VmState(**{**base, "functions": ("0000:14:00.0",), **changed})  # type: ignore[arg-type]


def test_what_moves_between_two_looks() -> None:
    on = Process(pid=7, started=1, pinned=0, event_queues=1, held=(), state="T")
    before = Look(vms={7: vm()}, functions={"0000:14:00.0": State(address="0000:14:00.0", there=True, driver="vfio-pci", power="D0")})
    after = Look(vms={7: vm(process=on)}, functions={"0000:14:00.0": State(address="0000:14:00.0", there=True, driver=None, power="D3hot")})
    assert [one.kind for one in changes(before, after)] == ["switched-on", "stopped", "pinned", "driver", "power"]
    assert [one.kind for one in changes(Look(), before)] == ["started"]
    assert [one.kind for one in changes(before, Look())] == ["ended"]
    # the same number, another process
    assert [one.kind for one in changes(before, Look(vms={7: vm(started=2)}))] == ["started", "ended"]


def textfile(path: Path) -> str:
    """Of a host and a VM with everything that can be told, and names that do harm."""
    made = Textfile(path, {("smmu3.0x0", "yes"): 3}, {"smmu3.0x0": 2})
    made.count([Record(at="", source="kernel", kind="F_TRANSLATION", text="", vm='we"b', stage=2, count=5)])
    made.count([Record(at="", source="kernel", kind="lost", text="", count=9)])
    state = State(address="0000:14:00.0", there=True, runtime="active", interrupts=Interrupts(kind="msix", vectors=2, count=41))
    made.write(Look(vms={7: vm()}, functions={"0000:14:00.0": state}))
    return path.read_text()


def test_the_textfile_is_what_prometheus_reads(tmp_path: Path) -> None:
    """Held against the parser of Prometheus' own client library; a name with a quote in it is a label like any other."""
    families = {one.name: one for one in text_string_to_metric_families(textfile(tmp_path / "smmu.prom"))}
    events = families["smmu_wizard_events"].samples[0]
    assert (events.value, events.labels["vm"], events.labels["stage"]) == (5, 'we"b', "2")
    assert {one.labels["by"]: one.value for one in families["smmu_wizard_events_lost"].samples} == {"kernel": 9, "watch": 0}
    assert families["smmu_wizard_function_interrupts"].samples[0].value == 41
    assert families["smmu_wizard_vm_pinned_bytes"].samples[0].value == 768 << 20
    assert all(one.documentation and one.type in ("counter", "gauge") for one in families.values())


def test_promtool_has_nothing_to_say_of_the_textfile(tmp_path: Path) -> None:
    check_metrics(textfile(tmp_path / "smmu.prom"))


def test_a_socket_of_somebody_else_is_not_heard(tmp_path: Path) -> None:
    """The process that listens is this one, and the VM another."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "q"))
        server.listen()
        with pytest.raises(Foreign, match=f"belongs to process {os.getpid()}"):
            Events(str(tmp_path / "q"), 1, frozenset(), proc=PROC)


@pytest.mark.qemu
def test_a_real_qemu_is_heard(tmp_path: Path) -> None:
    """Its start, its events (a reset and a stop that somebody else asks for on another monitor), its end; as lines of JSON that fit the schema."""
    plan = planned(NVME, name=f"watch-{os.getpid()}")
    log = tmp_path / "kernel"
    log.write_text("")
    with started(require_qemu(), tmp_path, plan, "-monitor", f"unix:{tmp_path}/m,server=on,wait=off") as vm_:
        words = [sys.executable, "-m", "wizard", "watch", plan.name, "--json", "--log", str(log)]
        with ending(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)) as watch:
            assert watch.stderr is not None
            assert watch.stdout is not None
            said = [watch.stderr.readline() for _ in range(3)]
            assert said[2] == f"QEMU's events: of {plan.name}.\n", said
            _monitor(vm_, "system_reset")
            _monitor(vm_, "stop")
            with log.open("a") as file:
                file.write(STAGE_2 + "\n")
            kinds: list[str] = []
            while not {"RESET", "F_TRANSLATION"} <= set(kinds):
                one = json.loads(watch.stdout.readline())
                validator("watch").validate(one)
                kinds.append(one["kind"])
            vm_.process.kill()
            while kinds[-1] != "ended":
                kinds.append(json.loads(watch.stdout.readline())["kind"])
            watch.terminate()
            assert watch.wait(LIMIT) == 0, "as a service is ended"


def _monitor(vm_: Vm, command: str) -> None:
    """A command of QEMU's other monitor, by somebody else."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT)
        wait_until(lambda: client.connect_ex(str(vm_.directory / "m")) == 0, "its other monitor")
        client.recv(1 << 16)
        client.sendall(command.encode() + b"\n")
        client.recv(1 << 16)
