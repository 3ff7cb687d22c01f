"""First contact, plan and export on a live host, and the exported command line runs: data moves through the inner VM's own SMMUv3."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.tools.armhost import Boot, boot

pytestmark = pytest.mark.armhost
NVME = "0000:14:00.0"
LATE = 5.0
"""Seconds until an event is told. A quarter of one where nothing else runs; this host is emulated, on processors that others load."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Boot:
    """jobs/inner.sh on a host whose kernel allows nesting."""
    options = ["--canwbs", "--inner", "--mem", "4G"]
    here = Path(__file__).parent
    return boot(
        here / "jobs/inner.sh", tmp_path_factory.mktemp("inner"), options, beside=[here / "jobs/busy.sh", here / "jobs/looks.sh", here / "initrd.py"]
    )


@pytest.fixture(scope="module")
def console(host: Boot) -> str:
    """What the inner VM wrote on its serial port."""
    assert host.status("inner") == 0, host.errors("inner")
    return (host.out / "inner-console").read_text(encoding="utf-8", errors="replace").replace("\r", "")


@pytest.mark.parametrize("step", ["bind", "bind-run", "probe", "list", "plan", "prepare", "prepare-run", "export", "export-json", "undo", "unbind"])
def test_every_step_of_first_contact_ends_well(host: Boot, step: str) -> None:
    assert host.status(step) == 0, host.errors(step) + host.text(step)


def test_the_binding_script_binds_and_its_undo_gives_the_function_back(host: Boot) -> None:
    assert host.text("driver-before").split() == ["nvme", "(null)"]
    assert host.text("driver-bound").split()[0] == "vfio-pci"
    assert host.text("driver-after").split() == ["nvme", "(null)"]


def test_a_probe_turns_unknown_into_yes_for_every_function_that_can(host: Boot) -> None:
    verdicts = {f["address"]: f["accel"]["verdict"] for f in host.json("list")["functions"]}
    assert verdicts[NVME] == "yes"
    # what the kernel's own messages and groups say of the others: a shared group, a refused alias, no SMMU
    assert {verdicts[address] for address in ("0000:81:00.0", "0000:81:00.1", "0000:83:01.0", "0000:83:02.0", "0000:00:01.0")} == {"no"}


def test_the_plan_holds_on_the_live_host(host: Boot) -> None:
    assert host.status("check") == 0, host.text("check") + host.errors("check")


def test_both_command_lines_name_the_same_devices(host: Boot) -> None:
    shell = (host.out / "guest.sh").read_text(encoding="utf-8")
    words = json.loads((host.out / "guest.json").read_text(encoding="utf-8"))
    devices = [json.loads(words[place + 1])["driver"] for place, word in enumerate(words) if word == "-device"]
    assert re.findall(r"^  -device ([\w-]+)", shell, flags=re.M) == devices


def test_the_inner_vm_finds_the_function_where_the_plan_expected_it(host: Boot, console: str) -> None:
    expected = re.search(r"expected at guest (\S+),", (host.out / "guest.sh").read_text(encoding="utf-8"))
    assert expected
    assert re.search(rf"INNER-PCI {expected[1]} 0x1b36 0x0010 group=\d+ driver=nvme", console), console[-3000:]


def test_data_moves_through_the_inner_vms_own_smmu(host: Boot, console: str) -> None:
    assert re.search(r"^INNER-SMMU smmu3", console, flags=re.M)
    assert "INNER-DMA-OK" in console
    assert not re.search(r"event: F_\w+ client: 0000:14:00.0", host.text("dmesg-reading"))


def answers(view: Any) -> dict[str, str]:
    (seen,) = view["vms"]
    return {step["question"]: step["answer"] for step in seen["steps"]}


def codes(view: Any) -> set[str]:
    return {finding["code"] for vm in view["vms"] for finding in vm["findings"]} | {finding["code"] for finding in view["findings"]}


def test_verify_says_of_the_running_vm_what_each_question_has_for_an_answer(host: Boot) -> None:
    """While its data moves: three answers from three kinds of evidence, and nothing that differs from its profile."""
    assert host.status("verify") == 0, host.text("verify") + host.errors("verify")
    view = host.json("verify")
    assert answers(view) == {"by construction": "yes", "switched on by a guest": "yes", "translating": "yes"}
    assert codes(view) == set()
    assert view["guest"]["answer"] == "yes"  # by what its script read
    (seen,) = view["vms"]
    (function,) = seen["functions"]
    expected = re.search(r"expected at guest (\S+), StreamID (\w+)", (host.out / "guest.sh").read_text(encoding="utf-8"))
    assert expected
    assert (function["host"], function["guest"], function["stream_id"]) == (NVME, expected[1], int(expected[2], 16))
    assert (function["opened"], function["bus_master"], function["driver"]) == ("iommufd", True, "vfio-pci")


def seen(host: Boot, source: str) -> dict[str, Any]:
    """The first fault that watch told from one source."""
    told = [json.loads(line) for line in host.text("watch").splitlines()]
    return next(one for one in told if one["source"] == source and one["kind"].startswith("F_"))


def wall(text: str) -> float:
    """A time of ISO 8601 in UTC."""
    return datetime.fromisoformat(text).timestamp()


def test_watch_sees_a_fault_of_the_guests_own_tables_where_qemu_hands_it_over(host: Boot, console: str) -> None:
    """The address is in the guest's log and nowhere else; the host's kernel says nothing."""
    assert host.status("translated") == 0, host.errors("translated")
    one = seen(host, "qemu")
    expected = re.search(r"expected at guest (\S+), StreamID (\w+)", (host.out / "guest.sh").read_text(encoding="utf-8"))
    assert expected
    assert (one["kind"], one["vm"], one["function"], one["stage"]) == ("F_TRANSLATION", "guest", NVME, 1)
    assert int(one["stream"], 16) == int(expected[2], 16)
    assert "address" not in one
    every = [one for one in map(json.loads, host.text("watch").splitlines()) if one["source"] == "qemu" and "stamp" in one]
    assert all(0 <= wall(one["at"]) - wall(one["stamp"]) < LATE for one in every)
    assert re.search(rf"event: F_TRANSLATION client: {expected[1]} sid: {expected[2]} .*iova: 0xdead0000", console)
    assert "iova: 0xdead0000" not in host.text("dmesg")


def test_watch_sees_a_fault_of_stage_2_within_a_second_of_the_kernel(host: Boot) -> None:
    assert host.status("bypassed") == 0, host.errors("bypassed")
    one = seen(host, "kernel")
    assert (one["kind"], one["vm"], one["function"], one["stage"]) == ("F_TRANSLATION", "guest", NVME, 2)
    assert (one["address"], one["ipa"], one["layout"]) == ("0x40dead0000", "0x40dead0000", "guest.toml")
    beyond = 0x40_DEAD_0000 - (0x4000_0000 + (768 << 20))  # VIRT_MEM of QEMU's virt machine, and --memory 768M
    assert one["place"].startswith(f"about {beyond / 2**30:.1f}G beyond the end of the guest's memory")
    # both clocks in one line of the kernel's log
    clock = re.search(r"\[ *([\d.]+)\] smmu-wizard: it is ([\d.]+)", host.text("dmesg"))
    event = re.search(r"\[ *([\d.]+)\] .*event: F_TRANSLATION client: 0000:14:00.0 sid: 0x1400 .*iova: 0x40dead0000", host.text("dmesg"))
    assert clock
    assert event
    assert abs(float(one["stamp"]) - float(event[1])) < 0.5, "they are of one record, whose words come before its name"
    every = [one for one in map(json.loads, host.text("watch").splitlines()) if one["source"] == "kernel" and "stamp" in one]
    late = [wall(one["at"]) - (float(clock[2]) + float(one["stamp"]) - float(clock[1])) for one in every]
    assert min(late) > -0.5
    assert max(late) < LATE


def told(view: Any) -> str:
    return " ".join(finding["what"] for finding in view["vms"][0]["findings"])


def test_verify_names_what_is_wrong(host: Boot) -> None:
    """One thing each: another bus than the profile has, a function taken away by hand, a vSMMU left out."""
    assert host.status("verify-other-bus") == 1
    said = told(host.json("verify-other-bus"))
    assert "bus_nr of pcie.1 is 8, and other.toml says 32" in said
    assert f"the guest's address of {NVME} is" in said
    assert host.status("unplug") == 0, host.errors("unplug")
    unplugged = host.json("verify-unplugged")
    assert "running-function-missing" in codes(unplugged)
    assert answers(unplugged) == {"by construction": "no", "switched on by a guest": "no", "translating": "no"}
    without = host.json("verify-without-guest")
    assert {"running-not-accelerated", "running-differs"} <= codes(without)
    assert answers(without)["by construction"] == "no"


GUESTS: dict[str, tuple[dict[str, str], str, set[str]]] = {
    "bypasses": (
        {"by construction": "yes", "switched on by a guest": "yes", "translating": "unknown"},
        "no",
        {"running-guest-told-to-bypass", "guest-bypasses"},
    ),
    "without-driver": (
        {"by construction": "yes", "switched on by a guest": "no", "translating": "unknown"},
        "no",
        {"running-guest-without-smmu", "guest-without-smmu"},
    ),
    "without-window": (
        {"by construction": "yes", "switched on by a guest": "yes", "translating": "unknown"},
        "partly",
        {"running-interrupts-missing", "guest-without-msi-window", "guest-events"},
    ),
}


@pytest.mark.parametrize("name", GUESTS)
def test_a_guest_that_is_wrong_is_never_said_to_translate(name: str, host: Boot) -> None:
    """iommu.passthrough=1; no driver for the SMMU; firmware without the RMR. From outside, traced, and by what the guest's own script read."""
    view = host.json(f"verify-{name}")
    outside, inside, found = GUESTS[name]
    assert (answers(view), view["guest"]["answer"], codes(view)) == (outside, inside, found)
    step = next(step for step in view["vms"][0]["steps"] if step["question"] == "translating")
    # Where its data moved, an idle guest is no explanation.
    assert ("the guest was not idle" in step["said"]) is (name != "without-window")


def test_a_vm_that_was_started_otherwise(host: Boot) -> None:
    """The function on another bus and the vSMMU without accel, which QEMU starts; another machine; no hugepages, and hugepages."""
    view = host.json("verify-elsewhere-guest")
    assert answers(view) == {"by construction": "no", "switched on by a guest": "no", "translating": "no"}
    assert {"running-not-accelerated", "running-differs"} <= codes(view)
    for said in (
        "accel of smmuv3.1 is off, and guest.toml says on",
        f"the bus of {NVME} is other, and guest.toml says pcie.1.port1",
        f"the vSMMU above {NVME} is none, and guest.toml says smmuv3.1",
        "its machine is virt-11.0, and guest.toml says virt-11.1",
    ):
        assert said in told(view)
    assert "has 0 of its memory in hugepages of 2M, and huge.toml says all of 768M" in told(host.json("verify-without-huge"))
    assert codes(host.json("verify-huge-huge")) == {"running-paused"}


def test_what_qemu_does_not_start(host: Boot) -> None:
    """A function behind a vSMMU without accel, and hugepages that nobody reserved: a VM that lives has neither."""
    assert host.status("accel-off") == 1
    assert "requires iommu MAP notifier which is not currently supported" in host.errors("accel-off")
    assert host.status("huge-none") == 1
    assert "unable to map backing store for guest RAM" in host.errors("huge-none")


def test_a_limit_that_the_next_function_does_not_fit(host: Boot) -> None:
    view = host.json("verify-later")
    assert {"running-memlock-small", "running-function-missing"} <= codes(view)
    assert f"may lock 8M, and needs {768 * 1024 + 4}K for its functions" in told(view)


def test_the_planned_limit_of_locked_memory_is_what_an_ordinary_user_needs(host: Boot) -> None:
    """The guest's memory and QEMU's pvtime page, to the page: with the memory alone the same VM does not start."""
    for step in ("limited-plan", "limited-prepare", "limited-prepare-run", "limited-export"):
        assert host.status(step) == 0, host.errors(step)
    assert int(host.text("limited-kib")) == 768 * 1024 + 4
    assert host.status("limited-starts") == 0, host.errors("limited-starts")
    assert host.status("limited-memory-alone") == 1
    assert "= -12 (Cannot allocate memory)" in host.errors("limited-memory-alone")
