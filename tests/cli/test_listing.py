"""``list`` and ``show`` over every fixture: the documented form, where each value is from, and what is assumed marked where it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, run

FIXTURES = sorted(path.stem for path in (ROOT / "fixtures").glob("*.json"))
SOURCES = {"probe", "hw_info", "log", "iort", "madt", "device-tree", "sysfs", "config", "assumed", "none"}
# Fields are added, never renamed (sources: design-json).
HOST = {"schema", "host", "smmus", "functions", "groups"}
SMMU = {"name", "base", "numa_node", "capabilities", "functions"}
FUNCTION = {
    "address", "vendor", "device", "class", "name", "driver", "iommu_group", "smmu", "stream_ids", "numa_node", "capabilities", "accel", "todo",
}  # fmt: skip
GROUP = {"id", "type", "functions", "reserved_regions"}
FINDING = {"code", "severity", "subject", "what", "why", "fix"}
# What is to be known of each SMMU, known or not (sources: design-capabilities).
CAPABILITIES = {
    "nesting", "s2fwb", "btm", "httu", "ats", "pri", "ssidsize", "sidsize", "oas", "gran4k", "gran16k", "gran64k", "ril", "stall_model", "vax",
    "coherent_walks", "cmdqv", "st_level", "cd2l", "architecture", "implementer", "cmdq_force_sync",
}  # fmt: skip
OF_FUNCTIONS = {"ats", "pri", "pasid", "acs_path", "flr", "reset_method", "sriov", "msix", "dma_aliases", "canwbs", "rmr"}


def shown(name: str, *words: str) -> str:
    done = run("--replay", f"fixtures/{name}.json", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", FIXTURES)
def test_the_form_is_the_documented_one(name: str) -> None:
    listed = json.loads(shown(name, "list", "--json"))
    assert set(listed) >= HOST
    assert listed["schema"] == 1
    for smmu in listed["smmus"]:
        assert set(smmu) >= SMMU
        assert smmu["base"] is None or re.fullmatch(r"0x[0-9a-f]+", smmu["base"])
        if smmu["kind"] == "smmuv3":
            assert set(smmu["capabilities"]) >= CAPABILITIES
    for function in listed["functions"]:
        assert set(function) >= FUNCTION
        assert re.fullmatch(r"0x[0-9a-f]{4}", function["vendor"])
        assert all(isinstance(stream, int) for stream in function["stream_ids"])
        assert function["accel"]["verdict"] in ("yes", "no", "unknown")
        assert bool(function["accel"]["reasons"]) == (function["accel"]["verdict"] != "yes")
        assert all(set(finding) - {"action"} == FINDING for finding in (*function["accel"]["reasons"], *function["todo"]))
        assert set(function["capabilities"]) >= OF_FUNCTIONS
    for group in listed["groups"]:
        assert set(group) >= GROUP
        assert all(set(region) == {"start", "end", "type"} for region in group["reserved_regions"] or ())
    for thing in (*listed["smmus"], *listed["functions"]):
        for known in thing["capabilities"].values():
            assert known["source"] in SOURCES
            assert (known["value"] is None) == (known["source"] == "none")


@pytest.mark.parametrize("name", FIXTURES)
def test_an_assumed_value_never_makes_a_yes(name: str) -> None:
    """A yes rests on nothing that the snapshot itself calls assumed."""
    listed = json.loads(shown(name, "list", "--json"))
    accelerated = [function for function in listed["functions"] if function["accel"]["verdict"] == "yes"]
    assert all(not function["assumed"].keys() & {"iommu", "iommu_group", "path", "config", "*"} for function in accelerated)
    assert all(function["stream_ids_source"] == "iort" for function in accelerated)
    if listed["host"]["assumptions"] and name != "host-in-use":  # what is in use decides nothing
        assert accelerated == []


def test_what_is_assumed_is_marked_where_it_stands() -> None:
    text = shown("gb200", "list")
    row = next(line for line in text.splitlines() if "0008:01:00.0" in line)
    assert re.match(r" +0008:01:00\.0\* +unknown +0x10100\* +17\* +nvgrace_gpu_vfio_pci +NVIDIA", row)
    assert "oas 48*" in text
    assert "* assumed: nobody measured or published it" in text
    function = shown("gb200", "show", "0008:01:00.0")
    assert "assumed" in function
    assert "Which SMMU this function sits behind was not published." in function
    assert "not published" in shown("gb200", "show", "smmu3.0x0000000005000000")
    recorded = shown("arm64-virt", "list")
    assert "*" not in recorded
    assert "assumed" not in recorded


def test_registers_are_shown_raw_and_with_who_was_asked() -> None:
    text = shown("arm64-virt", "show", "0xc000000")
    assert "IDR0 0x0d44101b  IDR1 0x02730010" in text
    assert "asked of 0000:" in text
    assert "0x01088705  TWO_LVL_STRTAB TT_LE ATS" not in text  # ATS is not in the recorded mask
    assert "0x01088705  TWO_LVL_STRTAB TT_LE" in text
    made_up = json.loads(shown("grace-cmdqv", "show", "0x12000000", "--json"))["smmu"]
    assert made_up["registers"]["assumed"] is True
    assert made_up["capabilities"]["cmdqv_queues_per_vm"] == {"value": 2, "source": "assumed", "note": ""}


@pytest.mark.parametrize("words", [["list"], ["show", "dmar0"], ["doctor"]])
def test_hosts_without_smmuv3_are_told_plainly(words: list[str]) -> None:
    done = run("--replay", "fixtures/x86-intel.json", *words)
    assert "The IOMMU of this host is Intel VT-d: only an SMMUv3 can back an accelerated vSMMU." in done.stdout


def test_an_smmuv2_host_is_told_what_it_has(tmp_path: Path) -> None:
    text = (ROOT / "fixtures/arm64-virt.json").read_text().replace("smmu3.0x", "smmu.0x").replace("arm-smmu-v3", "arm-smmu")
    snapshot = json.loads(text)
    snapshot["hw_info"], snapshot["acpi"] = [], {}
    path = tmp_path / "v2.json"
    path.write_text(json.dumps(snapshot))
    done = run("--replay", str(path), "list")
    assert "The IOMMU of this host is an SMMUv2: only an SMMUv3 can back an accelerated vSMMU." in done.stdout
    assert "Behind no IOMMU that the kernel uses:" in done.stdout
    verdicts = {function["accel"]["verdict"] for function in json.loads(run("--replay", str(path), "list", "--json").stdout)["functions"]}
    assert verdicts == {"no"}
