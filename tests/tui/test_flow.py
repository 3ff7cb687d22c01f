"""From a key press to the file on disk."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from tests.tui.conftest import NVME, VF, app, cursor_to, press, said, settle, shown, type_text


@pytest.fixture(autouse=True)
def _in_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


async def test_two_vms_from_the_host_to_their_files(tmp_path: Path) -> None:
    """NVMe for one VM, a VF for another: Host, VMs, Review, Export with keys alone at 80x24."""
    wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert "smmu3.0x000000000c000000" in shown(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a")
        assert "a new VM" in shown(pilot)
        assert "fits" in shown(pilot)
        await press(pilot, "enter")
        await press(pilot, "ctrl+a", "ctrl+k")
        await type_text(pilot, "storage")
        await press(pilot, "enter")
        await press(pilot, "escape")
        await cursor_to(pilot, VF)
        await press(pilot, "a", "down", "enter")
        await press(pilot, "ctrl+a", "ctrl+k")
        await type_text(pilot, "web 1")
        await press(pilot, "enter")
        assert [(vm.name, [f.host for f in vm.functions]) for vm in wizard.session.vms] == [("storage", [NVME]), ("web 1", [VF])]

        await press(pilot, "2")
        assert "storage" in shown(pilot)
        assert "web 1" in shown(pilot)
        assert VF in shown(pilot)
        await press(pilot, "3", "right")
        assert "args=(" in shown(pilot)
        await press(pilot, "4")
        assert "storage.toml" in shown(pilot)
        assert "new" in shown(pilot)
        assert os.listdir(tmp_path) == [] or not list(tmp_path.glob("*.toml"))
        await press(pilot, "w")
        assert "Wrote 8 files" in await said(pilot)

    for name, address in (("storage", NVME), ("web 1", VF)):
        profile = tomllib.loads((tmp_path / f"{name}.toml").read_text())
        assert profile["name"] == name
        assert [one["host"] for one in profile["function"]] == [address]
        script = (tmp_path / f"{name}.sh").read_text()
        assert f"host={address}" in script
        assert "arm-smmuv3," in script
        assert "accel=on" in script
        assert (tmp_path / f"{name}.sh").stat().st_mode & 0o111
        assert (tmp_path / f"{name}.prepare.sh").stat().st_mode & 0o111
        assert "<domain" in (tmp_path / f"{name}.xml").read_text()


async def test_the_same_functions_without_canwbs_say_why_not(tmp_path: Path) -> None:
    """arm64-virt lacks CANWBS: the question itself says what stands against it, and nothing can be written."""
    wizard = app("arm64-virt")
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a")
        text = shown(pilot)
        assert "What stands against it" in text
        assert "CANWBS" in text or "S2FWB" in text
        await press(pilot, "enter", "enter", "4")
        assert "nothing is written" in shown(pilot)
        await press(pilot, "w")
    assert not list(tmp_path.glob("*.toml"))


async def test_everything_can_be_undone_and_done_again() -> None:
    """Give, take back, rename: u and U walk through it."""
    wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter")
        given = wizard.session.vms
        await press(pilot, "x")
        assert wizard.session.owner(NVME) is None
        await press(pilot, "u")
        assert wizard.session.vms == given
        await press(pilot, "u")
        assert wizard.session.vms == ()
        assert wizard.plan is None
        await press(pilot, "U", "U")
        assert wizard.session.owner(NVME) is None
        await press(pilot, "u")
        assert wizard.session.vms == given


async def test_what_comes_along_is_shown_before_it_is_done() -> None:
    """0000:81:00.0 and .1 share IOMMU group 11 on the recorded host."""
    wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, "0000:81:00.0")
        await press(pilot, "a")
        assert "0000:81:00.1" in shown(pilot)
        assert "comes along" in shown(pilot)
        await press(pilot, "escape")
        assert wizard.session.vms == ()


async def test_a_function_of_another_vm_is_shown_there_and_moves() -> None:
    """A second VM that takes the function takes it from the first."""
    wizard = app()
    async with wizard.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "a")
        assert "in vm1 now" in shown(pilot)
        await press(pilot, "down", "enter", "enter")
        assert wizard.session.owner(NVME) == "vm2"
        assert wizard.session.get("vm1") is not None


async def test_a_field_is_edited_and_a_wrong_value_says_so() -> None:
    """Memory of a VM: 4G is taken, words are not."""
    wizard = app()
    async with wizard.run_test(size=(80, 40)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "2")
        view = wizard.screen.query_one("#fields")
        assert view.go_to("memory")  # type: ignore[attr-defined]
        await press(pilot, "enter", "ctrl+a", "ctrl+k")
        await type_text(pilot, "much")
        assert "not a size" in shown(pilot)
        await press(pilot, "enter")
        assert wizard.session.vms[0].memory == 1 << 30
        await press(pilot, "ctrl+a", "ctrl+k")
        await type_text(pilot, "2G")
        await press(pilot, "enter")
        assert wizard.session.vms[0].memory == 2 << 30


async def test_a_finding_leads_to_its_field() -> None:
    """More memory than the host has: enter on the finding puts the cursor on the field."""
    wizard = app()
    async with wizard.run_test(size=(100, 40)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "2")
        wizard.screen.query_one("#fields").go_to("memory")  # type: ignore[attr-defined]
        await press(pilot, "enter", "ctrl+a", "ctrl+k")
        await type_text(pilot, "4T")
        await press(pilot, "enter", "3")
        text = shown(pilot)
        assert "memory" in text.lower()
        await press(pilot, "shift+tab")
        screen = wizard.screen
        findings = screen.query_one("#findings")
        place = next(n for n, one in enumerate(wizard.plan.findings if wizard.plan else ()) if one.code == "memory-over-host")
        findings.go_to(place)  # type: ignore[attr-defined]
        findings.focus()
        await press(pilot, "enter")
        await settle(pilot)
        assert wizard.current_mode == "vms"
        assert wizard.screen.query_one("#fields").cursor == "memory"  # type: ignore[attr-defined]


async def test_overwriting_asks_and_shows_the_difference(tmp_path: Path) -> None:
    """A file that is there and differs stays until y."""
    (tmp_path / "vm1.toml").write_text("# mine\n")
    wizard = app()
    async with wizard.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "4", "w")
        text = shown(pilot)
        assert "would be replaced" in text
        await press(pilot, "escape")
        assert (tmp_path / "vm1.toml").read_text() == "# mine\n"
        await press(pilot, "w", "y")
        assert NVME in (tmp_path / "vm1.toml").read_text()
        assert "# mine" in (tmp_path / "vm1.toml").read_text()  # comments of an existing profile stay


async def test_a_directory_that_cannot_be_written_loses_nothing(tmp_path: Path) -> None:
    """The error is said, the session goes on."""
    (tmp_path / "file").write_text("")
    wizard = app()
    async with wizard.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "4", "d", "ctrl+a", "ctrl+k")
        await type_text(pilot, "file/below")
        await press(pilot, "enter", "w")
        assert "can't be made" in await said(pilot)
        assert wizard.session.owner(NVME) == "vm1"
        assert wizard.saved != wizard.session


async def test_enter_gives_a_function_where_functions_are_chosen_for_a_vm() -> None:
    """The VM is known there: nothing is asked where nothing comes along and nothing stands against it."""
    wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "2", "n", "enter", "a")
        await cursor_to(pilot, NVME)
        await press(pilot, "enter")
        assert [one.host for one in wizard.session.get("vm1").functions] == [NVME]  # type: ignore[union-attr]
        assert "guest 09:00.0" in shown(pilot)


async def test_the_firmware_and_the_stream_ids(tmp_path: Path) -> None:
    """IORT as QEMU's virt builds it (domain: segment 0, identity StreamIDs, one SMMU for each pxb), and from it back to a function."""
    wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "I")
        text = shown(pilot)
        assert "SEGMENT" in text
        assert "CANWBS" in text
        assert "requester IDs 0x1000 to 0x14ff: StreamIDs 0x1000 to 0x14ff" in text
        row = next(row for row in text.split("\n") if NVME in row)
        assert row.split()[1:5] == [NVME, "0x1400", "0x1400", "iort"]
        await press(pilot, "down", "down", "down", "enter")
        assert f"show {VF}" in shown(pilot)


async def test_a_host_without_iort_says_so() -> None:
    wizard = app("x86-intel")
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "I")
        assert "No IORT was read" in shown(pilot)


async def test_group_and_companions_side_by_side() -> None:
    wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, "0000:81:00.0")
        await press(pilot, "enter")
        row = next(row for row in shown(pilot).split("\n") if "Of the same device" in row)
        assert "In IOMMU group 11" in row
        assert any(row.count("0000:81:00.1 e1000e") == 2 for row in shown(pilot).split("\n"))


async def test_every_vsmmu_of_one_smmu_is_joined_with_it() -> None:
    """--layout per-function: two vSMMUs stand for the same SMMU, and both letters are at it."""
    wizard = app()
    async with wizard.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "escape")
        await cursor_to(pilot, VF)
        await press(pilot, "a", "enter", "2")
        wizard.screen.query_one("#fields").go_to("layout")  # type: ignore[attr-defined]
        await press(pilot, "space", "5", "t")
        text = shown(pilot)
        assert next(row for row in text.split("\n") if "smmu3.0x000000000c000000" in row).count("[A,B]") == 1
        assert "[A1]" in text
        assert "[B1]" in text
