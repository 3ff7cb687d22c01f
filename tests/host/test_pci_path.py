"""ACS on the path and DMA aliases, against the IOMMU groups and log lines of a recorded host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.host.test_pci_capabilities import FUNCTIONS
from wizard.base.address import Address
from wizard.host.pci import path as way
from wizard.host.pci.config import decode_config
from wizard.host.pci.path import ISOLATION, PciNode

DATA = Path(__file__).parent / "data"

# captures: iommu-groups.txt at boot. 00:01.0 and its neighbours have no SMMU and no group.
GROUPS = """
10:00.0 | 10:01.0 | 11:00.0 | 14:00.0 | 40:00.0 | 40:01.0 | 40:02.0 | 41:00.0 | 42:00.0 | 80:00.0 | 80:01.0
81:00.0 81:00.1 | 82:00.0 83:01.0 | 11:10.0 | 11:10.2
""".replace("\n", "|")


def at(text: str) -> Address:
    return Address.parse(text)


@pytest.fixture(scope="module")
def nodes() -> dict[Address, PciNode]:
    recorded = json.loads((DATA / "arm64-virt-boot.pci.json").read_text())
    return {
        at(address): PciNode(
            at(address),
            at(entry["parent"]) if entry["parent"] else None,
            decode_config(bytes.fromhex(entry["config"]), entry["length"]),
            "physfn" in entry,
        )
        for address, entry in recorded.items()
    }


def test_isolation_explains_the_kernels_groups(nodes: dict[Address, PciNode]) -> None:
    """The kernel gave a function a group of its own exactly where every step of its path keeps peers apart."""
    compared = 0
    for members in (part.split() for part in GROUPS.split("|") if part.strip()):
        for member in members:
            assert way.acs_path(nodes, at(member)).isolated == (len(members) == 1), member
            compared += 1
    assert compared == 17


def test_what_is_missing_and_where(nodes: dict[Address, PciNode]) -> None:
    path = way.acs_path(nodes, at("81:00.1"))
    function, root_port = path.steps
    assert function.missing == ISOLATION  # a multi-function endpoint without ACS
    assert function.capable == frozenset()
    assert root_port.address == at("80:00.0")
    assert root_port.missing == frozenset()
    assert root_port.enabled == ISOLATION  # ACSCtl of lspci
    assert root_port.capable == frozenset({"SV", "TB", "RR", "CR", "UF", "DT"})
    assert path.missing == ISOLATION


def test_a_single_function_endpoint_needs_no_acs(nodes: dict[Address, PciNode]) -> None:
    endpoint, root_port = way.acs_path(nodes, at("14:00.0")).steps
    assert not endpoint.applies
    assert root_port.applies


def test_virtual_functions_are_no_multifunction_device(nodes: dict[Address, PciNode]) -> None:
    assert way.acs_path(nodes, at("11:10.2")).isolated is True


def test_aliases_behind_a_conventional_bridge(nodes: dict[Address, PciNode]) -> None:
    """The log says ``pci 0000:83:02.0: Aliasing StreamID 0x8300 (from 0000:83:01.0) unsupported``."""
    for member in ("83:01.0", "83:02.0"):
        aliases = way.dma_aliases(nodes, at(member))
        assert [alias.rid for alias in aliases] == [at(member).rid, 0x8300]
        assert aliases[1].source == at("82:00.0")
        assert way.aliases_known(nodes, at(member))


def test_functions_on_pci_express_have_their_own_id_alone(nodes: dict[Address, PciNode]) -> None:
    for address in nodes:
        if address.bus != 0x83:
            assert [alias.rid for alias in way.dma_aliases(nodes, address)] == [address.rid]


def test_an_ordinary_user_cannot_know(nodes: dict[Address, PciNode]) -> None:
    user = {address: PciNode(address, node.parent, decode_config(node.config.data[:64], 64), node.virtual) for address, node in nodes.items()}
    assert way.acs_path(user, at("14:00.0")).isolated is None
    assert not way.aliases_known(user, at("83:01.0"))
    assert way.aliases_known(user, at("80:00.0"))  # on a root bus nothing stands above


def test_parents_that_form_a_loop_or_are_missing(nodes: dict[Address, PciNode]) -> None:
    config = nodes[at("80:00.0")].config
    loop = {at("01:00.0"): PciNode(at("01:00.0"), at("02:00.0"), config), at("02:00.0"): PciNode(at("02:00.0"), at("01:00.0"), config)}
    assert len(way.acs_path(loop, at("01:00.0")).steps) <= 65
    assert not way.aliases_known(loop, at("01:00.0"))
    lost = {at("01:00.0"): PciNode(at("01:00.0"), at("00:01.0"), config)}
    assert way.ancestors(lost, at("01:00.0")) == ()
    assert not way.aliases_known(lost, at("01:00.0"))


def test_a_pci_to_pci_express_bridge_uses_its_own_id(nodes: dict[Address, PciNode]) -> None:
    """Device/port type 8, and a conventional bridge: pci_for_each_dma_alias() takes the bridge's own requester ID."""
    data = bytearray(nodes[at("82:00.0")].config.data)
    data[0x48 + 2] = 0x82
    reverse = decode_config(bytes(data), 4096)
    data[0x06] = 0  # no capability list: a conventional PCI to PCI bridge
    conventional = decode_config(bytes(data[:256]), 256)
    for bridge in (reverse, conventional):
        changed = {**nodes, at("82:00.0"): PciNode(at("82:00.0"), at("80:01.0"), bridge)}
        assert [alias.rid for alias in way.dma_aliases(changed, at("83:01.0"))] == [0x8308, 0x8200]


def test_what_a_function_cannot_do_is_not_asked_of_it() -> None:
    """Features that the capability register lacks are not needed there or hard-wired on (pci_acs_flags_enabled()).

    The function's ACSCap: ReqRedir+ CmpltRedir+ UpstreamFwd+, ACSCtl: CmpltRedir+ UpstreamFwd+; the root port's are all on.
    """
    gpu, port = FUNCTIONS["0008:06:00.0"][1], FUNCTIONS["0008:00:00.0"][1]
    chain = {at("0008:06:00.0"): PciNode(at("0008:06:00.0"), at("0008:00:00.0"), gpu), at("0008:00:00.0"): PciNode(at("0008:00:00.0"), None, port)}
    path = way.acs_path(chain, at("0008:06:00.0"))
    assert path.missing == frozenset({"RR"})
    assert path.isolated is False
    assert path.steps[1].missing == frozenset()


def test_types_that_are_never_asked_and_one_that_always_fails() -> None:
    """An upstream port without neighbours; an event collector (device/port type 0xa): pci_acs_enabled() answers false for it."""
    upstream = FUNCTIONS["0008:01:00.0"][1]
    data = bytearray(upstream.data)
    data[0x0E] |= 0x80
    several = decode_config(bytes(data), 4096)
    data[0x62] = 0xA2
    collector = decode_config(bytes(data), 4096)
    steps = [way.acs_step(PciNode(at("0008:01:00.0"), None, space)) for space in (upstream, several, collector)]
    assert [step.applies for step in steps] == [False, True, True]
    assert steps[1].missing == steps[2].missing == ISOLATION


def test_a_bridge_that_was_not_recorded_leaves_the_path_unknown() -> None:
    gpu = FUNCTIONS["0008:06:00.0"][1]
    alone = {at("0008:06:00.0"): PciNode(at("0008:06:00.0"), at("0008:00:00.0"), FUNCTIONS["0008:01:00.0"][1])}
    assert way.acs_path(alone, at("0008:06:00.0")).isolated is None
    lacking = {at("0008:06:00.0"): PciNode(at("0008:06:00.0"), at("0008:00:00.0"), gpu)}
    assert way.acs_path(lacking, at("0008:06:00.0")).isolated is False  # what is known to lack, lacks
