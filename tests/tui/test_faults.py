"""What a person loses without being told: characters, VMs, lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input

from tests.tools.hosts import host
from tests.tui.conftest import NVME, app, cursor_to, press, settle, shown, shows, until
from wizard.plan.planner import make_plan
from wizard.plan.request import Request, VmRequest
from wizard.profile import write_profile
from wizard.tui.profiles import open_profiles
from wizard.tui.screens.dialogs import Choose, Prompt
from wizard.tui.screens.dryrun import VIEWS
from wizard.tui.widgets.lines import LinesView


async def test_the_first_key_into_a_dialog_stays_when_the_focus_comes_behind_it() -> None:
    """On a busy machine the input hears of its focus after the first key."""
    wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        wizard.push_screen(Prompt("Memory", "4G"))
        await settle(pilot)
        field = wizard.screen.query_one(Input)
        await press(pilot, "5")
        field.post_message(events.Focus())
        await press(pilot, "1", "2", "M")
        assert field.value == "512M"


async def test_the_detail_of_a_dry_run_is_there_again_behind_the_other_views() -> None:
    wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "7")
        before = await shows(pilot, "QEMU starts: bind, stage 2, vIOMMU, first HWPT: passed")
        await press(pilot, "v")
        await until(pilot, lambda: "QEMU starts" not in shown(pilot))
        await press(pilot, *["v"] * (len(VIEWS) - 1))
        await until(pilot, lambda: shown(pilot) == before)


@pytest.mark.parametrize("screen", ["1", "2", "3", "5", "7"])
async def test_the_help_names_no_key_twice(screen: str) -> None:
    wizard = app()
    async with wizard.run_test(size=(80, 80)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", screen)
        await press(pilot, "question_mark")
        found = [match[1].split() for match in re.finditer(r"^│   (\S.{17})\S", shown(pilot), re.MULTILINE)]
        keys = [key for row in found for key in (("←", "→") if row == ["←→"] else row)]
        assert "f1" in keys
        assert sorted(keys) == sorted(set(keys))


def profile(path: Path, vm: VmRequest) -> Path:
    """A VM as a file."""
    path.write_text(write_profile(make_plan(host(), Request(vms=(vm,))).vms[0]), encoding="utf-8")
    return path


@pytest.mark.parametrize(("answer", "cpus"), [("beside", {"vm1": 1, "vm1-1": 7}), ("replace", {"vm1": 7}), ("leave", {"vm1": 1})])
async def test_a_profile_takes_no_vm_away_unasked(answer: str, cpus: dict[str, int], tmp_path: Path) -> None:
    path = profile(tmp_path / "other.toml", VmRequest(name="vm1", cpus=7))
    wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter")
        mine = wizard.session.vms[0]
        open_profiles(wizard, [str(path)])
        await shows(pilot, "A VM of that name is here already")
        assert wizard.session.vms == (mine,)
        view = wizard.screen.query_one(LinesView)
        assert view.go_to(answer)
        await press(pilot, "enter")
        assert {vm.name: vm.cpus for vm in wizard.session.vms} == {**cpus, "vm1": cpus["vm1"] if answer == "replace" else mine.cpus}
        if answer == "replace":
            await press(pilot, "u")
            assert wizard.session.vms == (mine,)


async def test_files_with_the_same_name_in_them_do_not_replace_each_other(tmp_path: Path) -> None:
    paths = [str(profile(tmp_path / f"{cpus}.toml", VmRequest(name="web", cpus=cpus))) for cpus in (2, 3)]
    wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        open_profiles(wizard, paths)
        await shows(pilot, "A VM of that name is here already")
        await press(pilot, "enter")
        assert {vm.name: vm.cpus for vm in wizard.session.vms} == {"web": 2, "web-1": 3}


async def test_opening_what_is_open_as_it_is_on_disk_asks_nothing(tmp_path: Path) -> None:
    path = str(profile(tmp_path / "web.toml", VmRequest(name="web", cpus=2)))
    wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for _ in range(2):
            open_profiles(wizard, [path])
            await settle(pilot)
            assert [vm.name for vm in wizard.session.vms] == ["web"]
            assert not isinstance(wizard.screen, Choose)


async def test_the_names_of_columns_stand_above_them_when_a_filter_makes_them_narrower() -> None:
    wizard = app()
    async with wizard.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "slash", *"nvme", "enter")
        rows = (await shows(pilot, "1 of 23 shown")).split("\n")
        heads = next(row for row in rows if "FUNCTION" in row)
        row = next(row for row in rows if f"─{NVME}" in row)
        assert heads.index("ACCEL") == row.index("✔ yes")
        assert heads.index("DRIVER") == row.index("nvme")


async def test_enter_in_review_goes_to_the_field_of_the_marked_finding_at_once() -> None:
    """The screen begins in its text: the key that its foot promises does what it says there too."""
    wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "3")
        assert wizard.screen.query_one("#findings", LinesView).cursor is not None
        await press(pilot, "enter")
        await shows(pilot, " 2 VMs ", "vSMMUs")
        assert wizard.screen.SCREEN == "vms"  # type: ignore[attr-defined]


async def test_a_small_terminal_shows_what_fields_hold() -> None:
    wizard = app()
    async with wizard.run_test(size=(30, 8)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "2")
        assert "1G" in next(row for row in (await shows(pilot, "memory")).split("\n") if "memory" in row)
        await press(pilot, *["down"] * 6)
        assert "accel" in next(row for row in (await shows(pilot, "mode")).split("\n") if "mode" in row)
