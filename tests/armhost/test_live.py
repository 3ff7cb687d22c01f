"""The live program on a real arm64 kernel, held against lspci and sysfs of the same boot, as root and as an ordinary user."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.tools.armhost import Boot
from tests.tools.cache import PROJECT
from tests.tools.processes import LIMIT

pytestmark = pytest.mark.armhost
both = pytest.mark.parametrize("who", ["root", "nobody"])

#: How lspci calls what the program has a capability of.
LSPCI_CAPABILITIES = {
    "acs": "Access Control Services",
    "ats": "Address Translation Service (ATS)",
    "msix": "MSI-X:",
    "pasid": "Process Address Space ID (PASID)",
    "pri": "Page Request Interface (PRI)",
    "sriov": "Single Root I/O Virtualization (SR-IOV)",
}


def functions(listed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The functions of ``list --json`` by address."""
    return {function["address"]: function for function in listed["functions"]}


def lspci(boot: Boot, step: str) -> dict[str, str]:
    """Each function's paragraph of an lspci listing by address."""
    starts = re.split(r"^(?=[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7] )", boot.text(step), flags=re.M)
    return {paragraph.split()[0]: paragraph for paragraph in starts if paragraph}


@both
def test_functions_ids_and_drivers_are_those_of_lspci(live: Boot, who: str) -> None:
    expected = lspci(live, "lspci")
    found = functions(live.json(f"list-{who}"))
    assert set(found) == set(expected)
    for address, paragraph in expected.items():
        ids = re.search(r"\[([0-9a-f]{4})\]: .*\[([0-9a-f]{4}):([0-9a-f]{4})\]", paragraph)
        assert ids, paragraph
        assert found[address]["class"].startswith(f"0x{ids[1]}"), address
        assert (found[address]["vendor"], found[address]["device"]) == (f"0x{ids[2]}", f"0x{ids[3]}"), address
        driver = re.search(r"Kernel driver in use: (\S+)", paragraph)
        assert found[address]["driver"] == (driver[1] if driver else None), address


def test_capabilities_are_those_that_lspci_decodes(live: Boot) -> None:
    expected = lspci(live, "lspci-caps")
    compared = 0
    for address, function in functions(live.json("list-root")).items():
        for name, words in LSPCI_CAPABILITIES.items():
            known = function["capabilities"].get(name)
            if known is not None:
                assert known["value"] is (words in expected[address]), f"{address} {name}"
                assert known["source"] == "config"
                compared += 1
    assert compared > len(expected)


@both
def test_groups_and_reserved_regions_are_those_of_sysfs(live: Boot, who: str) -> None:
    expected = {}
    for line in live.text("groups").splitlines():
        number, kind, members, regions = line.split("|")
        rows = [
            dict(zip(("start", "end", "type"), (*(hex(int(word, 16)) for word in row.split()[:2]), row.split()[2]), strict=True))
            for row in regions.split(";")
            if row
        ]
        expected[int(number)] = (kind, sorted(members.split()), rows)
    found = {group["id"]: (group["type"], sorted(group["functions"]), group["reserved_regions"]) for group in live.json(f"list-{who}")["groups"]}
    assert found == expected


@both
def test_every_function_is_under_the_smmu_that_the_kernel_put_it_under(live: Boot, who: str) -> None:
    expected = dict(line.split() for line in live.text("smmus").splitlines())
    listed = live.json(f"list-{who}")
    assert {address: f["smmu"] for address, f in functions(listed).items() if f["smmu"] and address in expected} == expected
    assert {s["name"] for s in listed["smmus"]} == {"smmu3.0x000000000c000000", "smmu3.0x000000000c020000", "smmu3.0x000000000c040000"}


def test_stream_ids_are_those_that_the_kernel_reports(live: Boot) -> None:
    """The kernel names client and StreamID together in each event of its log."""
    seen = set(re.findall(r"event: \S+ client: (\S+) sid: (0x[0-9a-f]+)", live.text("dmesg")))
    assert seen
    found = functions(live.json("list-root"))
    for address, stream_id in seen:
        assert int(stream_id, 16) in found[address]["stream_ids"]


def test_an_ordinary_user_sees_what_is_unknown_as_unknown(live: Boot) -> None:
    root, nobody = functions(live.json("list-root")), functions(live.json("list-nobody"))
    for address, function in nobody.items():
        for name, known in function["capabilities"].items():
            seen_by_root = root[address]["capabilities"].get(name)
            if known["source"] == "none":
                assert known["value"] is None, f"{address} {name}"
            elif seen_by_root and seen_by_root["source"] != "none":
                assert known["value"] == seen_by_root["value"], f"{address} {name}"
        assert function["stream_ids"] == [], "the IORT needs root"
        assert function["accel"]["verdict"] != "yes"
    said = live.errors("record-nobody")
    assert "without root" in said
    assert said.count("sudo") == 1


@both
def test_a_snapshot_tells_elsewhere_what_the_live_host_told(live: Boot, who: str) -> None:
    live_list = live.json(f"list-{who}")
    command = [sys.executable, "-m", "wizard", "list", "--json", "--replay", str(live.out / f"record-{who}.out")]
    replayed = json.loads(subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=LIMIT).stdout)
    assert replayed["functions"] == live_list["functions"]
    assert replayed["smmus"] == live_list["smmus"]
    assert replayed["groups"] == live_list["groups"]
    # The kernel's local version is the name of the emulated host, which a record does not tell.
    assert re.sub(r"host-[0-9a-f]{8}", "armhost", replayed["host"]["kernel"]) == live_list["host"]["kernel"]


@both
def test_two_records_of_an_unchanged_host_differ_only_in_their_moment(live: Boot, who: str) -> None:
    first, second = live.json(f"record-{who}"), live.json(f"again-{who}")
    assert {name for name in first if first[name] != second[name]} <= {"moment"}


@both
def test_no_secret_of_the_host_is_in_its_record(live: Boot, who: str) -> None:
    text = live.text(f"record-{who}")
    assert "52:54:00" not in text
    assert "armhost-nvme0" not in text


@both
def test_doctor_finds_the_alias_that_the_kernel_refused(live: Boot, who: str) -> None:
    assert re.search(r"0000:83:02.0: Aliasing StreamID 0x8300 .*unsupported", live.text("dmesg"))
    assert live.status(f"doctor-{who}") == 1
    assert any("0000:83:02.0" in json.dumps(finding) for finding in _findings(live.json(f"doctor-{who}")))


def _findings(node: Any) -> list[dict[str, Any]]:
    """Every finding in a JSON output, wherever it stands."""
    if isinstance(node, dict):
        return [node] if "severity" in node else [finding for value in node.values() for finding in _findings(value)]
    return [finding for value in node for finding in _findings(value)] if isinstance(node, list) else []
