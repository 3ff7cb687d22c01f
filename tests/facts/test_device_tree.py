"""Device trees out of /sys: what is read, how far, and what is said of what could not be."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import msgspec
import pytest

from wizard.base.errors import InputError
from wizard.facts import devicetree
from wizard.facts.model import Facts, TreeNode
from wizard.facts.record import from_tree
from wizard.facts.snapshot import decode, encode
from wizard.facts.source import open_tree

BASE = "sys/firmware/devicetree/base"
FUNCTION = "platform/4010000000.pcie/pci0000:00/0000:00:01.0"


def cells(*numbers: int) -> bytes:
    """Cells of a property."""
    return b"".join(number.to_bytes(4, "big") for number in numbers)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host with one function behind one SMMU, the links as the kernel makes them."""
    files = {
        f"{BASE}/compatible": b"linux,dummy-virt\0",
        f"{BASE}/dma-coherent": b"",
        f"{BASE}/name": b"\0",
        f"{BASE}/serial-number": b"SECRET1234\0",
        f"{BASE}/pcie@10000000/iommu-map": cells(0, 1, 0, 0x10000),
        f"{BASE}/pcie@10000000/bus-range": cells(0, 255),
        f"{BASE}/soc/compatible": b"simple-bus\0",
        f"{BASE}/soc/ranges": b"",
        f"{BASE}/soc/smmu@9050000/compatible": b"arm,smmu-v3\0",
        f"{BASE}/soc/smmu@9050000/phandle": cells(1),
        f"{BASE}/soc/smmu@9050000/#iommu-cells": cells(1),
        f"{BASE}/soc/uart@0/compatible": b"arm,pl011\0",
        f"{BASE}/chosen/kaslr-seed": cells(1, 2),
        f"sys/devices/{FUNCTION}/uevent": b"PCI_CLASS=20000\nPCI_ID=8086:10D3\nPCI_SUBSYS_ID=8086:0000\nPCI_SLOT_NAME=0000:00:01.0\n"
        b"MODALIAS=pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00\n",
        "sys/devices/platform/9050000.smmu/iommu/smmu3.0x0000000009050000/uevent": b"",
    }
    links = {
        "sys/bus/pci/devices/0000:00:01.0": f"../../../devices/{FUNCTION}",
        "sys/devices/platform/4010000000.pcie/of_node": "../../../firmware/devicetree/base/pcie@10000000",
        "sys/devices/platform/9050000.smmu/of_node": "../../../firmware/devicetree/base/soc/smmu@9050000",
        "sys/class/iommu/smmu3.0x0000000009050000": "../../devices/platform/9050000.smmu/iommu/smmu3.0x0000000009050000",
        "sys/devices/platform/9050000.smmu/iommu/smmu3.0x0000000009050000/device": "../../../9050000.smmu",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    for name, target in links.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(target)
    return tmp_path


def nodes(facts: Facts) -> dict[str, TreeNode]:
    """The nodes by path."""
    assert not isinstance(facts.device_tree_nodes, msgspec.UnsetType)
    return {node.path: node for node in facts.device_tree_nodes}


def test_what_decides_is_read_and_nothing_else(root: Path) -> None:
    """Bridges, IOMMUs and what is above them, by the listed properties; no serial number, no seed, no UART."""
    found = nodes(from_tree(open_tree(str(root))))
    assert set(found) == {"/", "/pcie@10000000", "/soc", "/soc/smmu@9050000"}
    assert found["/pcie@10000000"].devices == ("platform/4010000000.pcie",)
    assert found["/soc/smmu@9050000"].devices == ("platform/9050000.smmu",)
    assert found["/"].properties == {"compatible": b"linux,dummy-virt\0".hex(), "dma-coherent": ""}
    assert found["/soc"].properties["ranges"] == ""


def test_a_tar_and_a_snapshot_say_the_same(root: Path, tmp_path: Path) -> None:
    """Byte for byte: a property that ends in zeros keeps them."""
    direct = from_tree(open_tree(str(root)))
    with tarfile.open(tmp_path / "host.tar", "w") as archive:
        archive.add(root / "sys", "sys")
    packed = from_tree(open_tree(str(tmp_path / "host.tar")))
    assert packed.device_tree_nodes == direct.device_tree_nodes
    assert decode(encode(direct), "it").device_tree_nodes == direct.device_tree_nodes


def test_a_property_that_is_too_long_or_not_readable_is_said(root: Path) -> None:
    """It is there and unknown, which is not absent."""
    (root / BASE / "pcie@10000000/iommu-map").write_bytes(bytes(devicetree.BYTES + 16))
    (root / "sys-access.json").write_bytes(msgspec.json.encode({"root_errors": {f"/{BASE}/soc/smmu@9050000/phandle": "read EIO"}}))
    (root / BASE / "soc/smmu@9050000/phandle").write_bytes(b"")
    found = nodes(from_tree(open_tree(str(root))))
    assert found["/pcie@10000000"].unread == ("iommu-map",)
    assert found["/soc/smmu@9050000"].unread == ("phandle",)


def test_a_tree_without_end_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many nodes and too deep ones end the reading with a word; a link that leads out is refused as everywhere."""
    monkeypatch.setattr(devicetree, "NODES", 3)
    facts = from_tree(open_tree(str(root)))
    assert "device tree" in facts.unread[next(place for place in facts.unread if place.startswith(f"/{BASE}"))]
    monkeypatch.undo()
    deep = root / BASE / "/".join(["a"] * (devicetree.DEPTH + 2))
    deep.mkdir(parents=True)
    assert any("a/a/a" in place for place in from_tree(open_tree(str(root))).unread)
    (root / "sys/devices/platform/9050000.smmu/of_node").unlink()
    os.symlink("../../../../../../etc", root / "sys/devices/platform/9050000.smmu/of_node")
    with pytest.raises(InputError):
        from_tree(open_tree(str(root)))
