"""`/` on the screens that have no filter of their own."""

from __future__ import annotations

from textual import events
from textual.pilot import Pilot

from tests.tui.conftest import NVME, app, cursor_to, press, settle, shown, shows, until
from wizard.tui.app import WizardApp
from wizard.tui.widgets.find import Find
from wizard.tui.widgets.lines import LinesView


async def one_vm(pilot: Pilot[int]) -> None:
    await settle(pilot)
    await cursor_to(pilot, NVME)
    await press(pilot, "a", "enter", "enter")


async def test_it_goes_to_the_lines_that_have_the_words() -> None:
    wizard = app()
    async with wizard.run_test(size=(100, 30)) as pilot:
        await one_vm(pilot)
        await press(pilot, "3")
        view = wizard.screen.query_one("#text", LinesView)
        texts = [view.line_at(y).text for y in range(view.count)]
        wanted = [y for y, text in enumerate(texts) if "memory" in text.casefold()]
        assert wanted
        await press(pilot, "slash", *"MEMORY")
        await shows(pilot, f"1 of {len(wanted)}")
        assert wanted[0] in range(view.scroll_offset.y, view.scroll_offset.y + view.size.height)
        await press(pilot, "enter", "N")
        await shows(pilot, f"{len(wanted)} of {len(wanted)}")
        assert wanted[-1] in range(view.scroll_offset.y, view.scroll_offset.y + view.size.height)
        await press(pilot, "n")
        await shows(pilot, f"1 of {len(wanted)}")
        await press(pilot, "escape")
        assert "n next" not in shown(pilot)
        await press(pilot, "slash", *"no such words")
        await shows(pilot, "not found")


async def test_keys_of_the_screen_are_its_own_again_when_the_search_ends() -> None:
    """On the dry run n is the next failure; while one searches, the next found."""
    wizard = app()
    async with wizard.run_test(size=(100, 30)) as pilot:
        await one_vm(pilot)
        await press(pilot, "7")
        await shows(pilot, "0 failed")
        await press(pilot, "slash", *"msi", "enter", "n")
        await shows(pilot, "2 of")
        assert "No scenario failed" not in "".join(one.message for one in wizard._notifications)
        await press(pilot, "escape", "n")
        assert "No scenario failed" in "".join(one.message for one in wizard._notifications)


def burst(wizard: WizardApp, *keys: str) -> None:
    """Keys as a fast typist or a paste brings them: none waits for what the one before it does."""
    for key in keys:
        wizard.post_message(events.Key({"/": "slash"}.get(key, key), key if len(key) == 1 else None))


async def test_a_burst_of_keys_goes_where_it_was_meant() -> None:
    """The first letter behind / is the box's, the first key behind enter is the view's."""
    wizard = app()
    async with wizard.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        burst(wizard, "/", *NVME, "enter", "a", "enter", "enter", "3")
        await shows(pilot, "vm1", "TOML")
        burst(wizard, "/", *"memory", "enter", "n", "n")
        await shows(pilot, "memory", "n next")
        await until(pilot, lambda: not wizard._typing)
        assert wizard.screen.query_one(Find).box.value == "memory"


async def test_it_opens_above_something_to_read_too() -> None:
    wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await press(pilot, "i")
        await press(pilot, "slash", *"features")
        await shows(pilot, "1 of")
        await press(pilot, "escape")
        assert "1 of" not in shown(pilot)
        await press(pilot, "escape")
        await shows(pilot, "1 Host")
