"""The machines in fixtures/: what is published of them is in, and nothing else looks measured."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from wizard.facts.model import Facts
from wizard.facts.snapshot import encode, load

FIXTURES = Path(__file__).parents[2] / "fixtures"
SNAPSHOTS = sorted(path.stem for path in FIXTURES.glob("*.json"))
BUILDERS: dict[str, Callable[[], Facts]] = {
    name: build
    for path in sorted((FIXTURES / "builders").glob("*.py"))
    for name, build in getattr(importlib.import_module(f"fixtures.builders.{path.stem}"), "FIXTURES", {}).items()
}


def fixture(name: str) -> Facts:
    """One committed snapshot."""
    return load(str(FIXTURES / f"{name}.json"))


def nameless(facts: Facts) -> Facts:
    """Without names of ids: those follow the pci.ids of the machine that ran the builder."""
    bare = (msgspec.structs.replace(function, vendor_name=None, device_name=None, class_name=None) for function in facts.functions)
    return msgspec.structs.replace(facts, functions=tuple(bare))


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_what_is_committed_is_what_the_program_writes(name: str) -> None:
    """A fixture is a snapshot as `record` writes it, to the byte; so is every one that a user sends."""
    assert encode(fixture(name)) == (FIXTURES / f"{name}.json").read_bytes()


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_builders_make_what_is_committed(name: str) -> None:
    """Nobody edits a machine by hand: scripts/fixtures makes it again from its builder."""
    assert nameless(BUILDERS[name]()) == nameless(fixture(name))


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_built_machine_says_what_it_assumes(name: str) -> None:
    """Every built snapshot names its builder and why each assumed value stands there; recorded ones assume nothing."""
    facts = fixture(name)
    assert facts.origin.startswith("builders/")
    assert all(assumption.why.endswith(".") for assumption in facts.assumptions)
    assert facts.assumptions


@pytest.mark.parametrize("name", sorted(set(SNAPSHOTS) - set(BUILDERS)))
def test_a_recorded_machine_assumes_nothing(name: str) -> None:
    """What was recorded was measured."""
    assert fixture(name).assumptions == ()
    assert fixture(name).redacted


def test_no_id_register_passes_for_read() -> None:
    """No raw register of real silicon was published: where a built machine has some, the snapshot says they are made up."""
    built = {name: fixture(name) for name in BUILDERS if name != "host-in-use"}
    with_registers = {name for name, facts in built.items() if facts.hw_info}
    assert with_registers == {"grace-cmdqv", "gb200"}
    assert all("hw_info" in {assumption.path for assumption in built[name].assumptions} for name in with_registers)


# Feature masks as the machines' own logs have them (bit numbers: arm-smmu-v3.h).
@pytest.mark.parametrize(
    ("name", "mask", "lines"),
    [
        ("grace-1s", "0x001e1fbf", 5),
        ("grace-cmdqv", "0x001e1fbf", 4),
        ("gb200", "0x000e1fbf", 10),
        ("altra-ava", "0x001c1fff", 6),
        ("altra-no-cohacc", "0x001c1eff", 6),
        ("ampereone", "0x0094dfef", 1),
        ("kunpeng-920", "0x00000fef", 6),
        ("thunderx2", "0x0000170d", 2),
    ],
)
def test_published_masks_stand_in_the_logs(name: str, mask: str, lines: int) -> None:
    """One line for each SMMU that probed."""
    assert sum(f"(features {mask})" in line for line in fixture(name).log) == lines


def test_shapes_that_tools_get_wrong() -> None:
    """One SMMU for two segments, one segment for six SMMUs, hexadecimal segments, 63 VFs, two sockets."""
    grace, kunpeng, altra, gb200 = (fixture(name) for name in ("grace-1s", "kunpeng-920", "altra-ava", "gb200"))
    by_name = {iommu.name: iommu.members for iommu in grace.iommus}
    assert {member[:4] for member in by_name["smmu3.0x0000000012000000"]} == {"0002", "0003"}
    assert by_name["smmu3.0x0000000016000000"] == ()
    assert by_name["smmu3.0x0000000011000000"] == ("NVDA1513:00", "NVDA2003:00", "NVDA2006:00")
    assert len({function.iommu for function in kunpeng.functions}) == 6
    assert {function.address[:4] for function in kunpeng.functions} == {"0000"}
    zip_pf = next(function for function in kunpeng.functions if function.address == "0000:75:00.0")
    assert (len(zip_pf.virtfns), zip_pf.virtfns[0], zip_pf.virtfns[-1]) == (63, "0000:75:00.1", "0000:75:07.7")
    assert "000c" in {function.address[:4] for function in altra.functions}
    assert next(group for group in altra.groups if group.id == 18).devices == ("0004:01:00.0", "0004:02:00.0")
    assert len(gb200.nodes) == 34
    assert sum(function.driver == "nvgrace_gpu_vfio_pci" for function in gb200.functions) == 4
