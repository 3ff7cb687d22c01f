"""What QEMU and libvirt say of themselves: asked of the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.libvirt import require_libvirt
from wizard.facts.model import Program
from wizard.facts.programs import SCHEMA, libvirt_elements
from wizard.host.libvirt import lacks


@pytest.fixture(scope="module")
def schema() -> Path:
    """The schema of domains of a real libvirt 12.8."""
    return require_libvirt() / SCHEMA.lstrip("/")


def test_libvirt_is_known_by_its_schema(schema: Path) -> None:
    """12.8 has pciBus, accel and its properties for an SMMU, and iommufd for a domain."""
    elements = libvirt_elements(str(schema))
    assert {"pciBus", "accel", "ats", "ril", "ssidsize", "oas", "cmdqv"} <= elements["iommu"].keys()
    assert "enabled" in elements["iommufd"]
    assert lacks(Program(name="libvirtd", path="/usr/sbin/libvirtd", version="12.8.0", properties=elements)) == ()


def test_a_schema_beats_the_version(schema: Path, tmp_path: Path) -> None:
    """A distribution may have taken accel into an older one, or left it out of a newer one."""
    elements = libvirt_elements(str(schema))
    assert lacks(Program(name="libvirtd", path="/x", version="12.2.0", properties=elements)) == ()
    (tmp_path / "old.rng").write_text(schema.read_text().replace('<attribute name="accel">', '<attribute name="other">'))
    older = Program(name="libvirtd", path="/x", version="12.9.0", properties=libvirt_elements(str(tmp_path / "old.rng")))
    assert lacks(older) == ("<driver accel=…> (12.8 has it)",)


@pytest.mark.parametrize(("version", "count"), [("10.0.0", 3), ("11.10.0", 2), ("12.1.0", 1), ("12.8.0", 0), (None, 0), ("unknown", 0)])
def test_without_a_schema_the_version_counts(version: str | None, count: int) -> None:
    assert len(lacks(Program(name="libvirtd", path="/x", version=version))) == count
    assert libvirt_elements("/nonexistent.rng") == {}
