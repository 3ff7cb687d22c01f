"""iommufd, VFIO and hot-plug on a real arm64 kernel: the probe against another program's raw ioctls on the same host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tools.armhost import Boot, boot
from wizard.facts.model import Facts
from wizard.facts.snapshot import load

pytestmark = [pytest.mark.armhost, pytest.mark.xdist_group("armhost")]
FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Boot:
    """One boot of the host with CANWBS, so that its kernel makes vIOMMUs."""
    return boot(Path(__file__).parent / "armhost/probe.py", tmp_path_factory.mktemp("probe"), ["--canwbs"])


@pytest.fixture(scope="module")
def facts(probed: Boot) -> Facts:
    """The snapshot of the probe."""
    return load(str(probed.out / "probed.json"))


def test_answers_are_those_of_the_capture(facts: Facts) -> None:
    """Raw ID registers, capabilities, nesting parent and vIOMMU: as ctypes' own ioctls recorded them on the same topology."""
    recorded = {info.address: info for info in load(str(FIXTURES / "arm64-virt-canwbs.json")).hw_info if info.error is None}
    asked = {info.address: info for info in facts.hw_info}
    assert recorded.keys() <= asked.keys()
    for address, other in recorded.items():
        own = asked[address]
        for name in ("data_type", "data", "capabilities", "max_pasid_log2", "nest_parent", "viommu", "viommu_cmdqv"):
            assert getattr(own, name) == getattr(other, name), f"{name} of {address}"
        assert own.cmdqv_error == "EOPNOTSUPP"  # no CMDQV in this host


def test_regions_are_the_sizes_of_the_bars(facts: Facts) -> None:
    """What VFIO reports is what sysfs' resource file says of each BAR, and the whole configuration space."""
    functions = {function.address: function for function in facts.functions}
    for info in facts.hw_info:
        lines = [line.split() for line in functions[info.address].resource.split("\n")][:6]
        sizes = {str(index): int(end, 16) - int(start, 16) + 1 for index, (start, end, flags) in enumerate(lines) if int(flags, 16) & 0x200}
        assert {index: size for index, size in info.regions.items() if index in sizes} == sizes
        assert info.regions["7"] == functions[info.address].config_length


def test_the_ranges_are_what_the_group_leaves(facts: Facts) -> None:
    """IOMMU_IOAS_IOVA_RANGES with the function attached: 48 bits of stage 1 without the regions that sysfs says are reserved; pages of 4 KiB."""
    groups = {group.id: group for group in facts.groups}
    functions = {function.address: function for function in facts.functions}
    told = [info for info in facts.hw_info if info.iova_error is None]
    assert {"0000:14:00.0", "0000:41:00.0"} <= {info.address for info in told}
    for info in told:
        lines = [line.split() for line in (groups[functions[info.address].iommu_group or 0].reserved_regions or "").splitlines()]
        holes = sorted((int(start, 16), int(end, 16)) for start, end, _ in lines)
        expected, at = [], 0
        for start, end in holes:
            expected.append((at, start - 1))
            at = end + 1
        expected.append((at, (1 << 48) - 1))
        assert [tuple(int(word, 16) for word in line.split()) for line in (info.iova_ranges or "").splitlines()] == expected
        assert info.iova_alignment == 4096


def test_a_group_that_is_open_is_left_alone(probed: Boot) -> None:
    """81:00.1 was open in a process: neither it nor 81:00.0 of the same group is opened again, and the rest is asked."""
    busy = json.loads((probed.out / "busy.json").read_text())
    assert "0000:81:00.0" not in busy["asked"]
    assert "0000:81:00.1" not in busy["asked"]
    assert "0000:14:00.0" in busy["asked"]
    assert sum("is left alone" in line for line in busy["said"]) == 2
    assert "resets them" in busy["questions"][0]


def test_refusals_name_the_next_step(probed: Boot) -> None:
    """Nothing bound, not confirmed, not allowed: each a sentence with what to do, and no traceback."""
    refusals = json.loads((probed.out / "refusals.json").read_text())
    assert refusals["nothing bound"][0] == 3
    assert "smmu-wizard prepare" in refusals["nothing bound"][2]
    assert refusals["not confirmed"][0] == 2
    assert refusals["as nobody"][0] == 3
    assert "sudo" in refusals["as nobody"][2]


def test_hot_plug_is_told_as_it_happens(probed: Boot) -> None:
    """Remove, rescan, VFs taken away, unbind: each with the function that it happened to."""
    events = json.loads((probed.out / "events.json").read_text())
    assert ["remove", "0000:14:00.0"] in [event[:2] for event in events["remove"]]
    assert [event[:2] for event in events["rescan"]] == [["add", "0000:14:00.0"], ["bind", "0000:14:00.0"]]
    assert {event[1] for event in events["vfs"] if event[0] == "remove"} == {"0000:11:10.0", "0000:11:10.2"}
    assert [event[:2] for event in events["unbind"]] == [["unbind", "0000:41:00.0"]]
