"""What goes wrong is said clearly, and nothing is lost."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.tools.hosts import FIXTURES, host
from tests.tools.processes import LIMIT, InTerminal, in_terminal, wait_until
from tests.tui.conftest import NVME, app, cursor_to, press, said, settle, shown, shows, told, type_text
from wizard.facts.snapshot import load
from wizard.host.build import host_of
from wizard.tui.app import WizardApp
from wizard.tui.config import Config, load_config
from wizard.tui.script import parse_script, play


@pytest.fixture(autouse=True)
def _in_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The program as a person calls it."""
    return subprocess.run(
        [sys.executable, "-m", "wizard", *words],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=LIMIT,
        env={**os.environ, "PYTHONPATH": str(FIXTURES.parent), **settings},
    )  # fmt: skip


def test_no_terminal() -> None:
    done = run("--demo")
    assert done.returncode == 2
    assert done.stderr.startswith("smmu-wizard: The wizard needs a terminal.")
    assert "--script" in done.stderr
    assert done.stdout == ""


def test_a_script_is_played_and_its_pictures_saved(tmp_path: Path) -> None:
    script = tmp_path / "demo.keys"
    script.write_text(f"size 80 24\npress slash\ntype {NVME}\npress enter\nexpect 'NVM Express'\nscreenshot one.svg\nscreenshot one.txt\n")
    done = run("--demo", "--script", str(script))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert NVME in (tmp_path / "one.txt").read_text()
    assert (tmp_path / "one.svg").read_text().startswith("<svg")
    first = (tmp_path / "one.svg").read_text()
    run("--demo", "--script", str(script))
    assert (tmp_path / "one.svg").read_text() == first


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("jump a", "line 1: there is no command jump"),
        ("size 80", "line 1: size takes 2 words"),
        ("press a\nwait long", "line 2: wait"),
        ("type 'a", "line 1:"),
        ("expect XYZ", "does not show"),
    ],
)
def test_a_wrong_script_names_its_line(tmp_path: Path, text: str, what: str) -> None:
    script = tmp_path / "demo.keys"
    script.write_text(text)
    done = run("--demo", "--script", str(script))
    assert done.returncode == 3
    assert what in done.stderr
    assert "Traceback" not in done.stderr


def test_an_internal_error_is_one_sentence_a_report_and_70(tmp_path: Path) -> None:
    """A real fault in a screen: its class is broken from outside, in a process of its own."""
    script = tmp_path / "demo.keys"
    script.write_text("press 6\nwait 0.5\n")
    code = (
        "import sys, wizard.tui.screens.doctor as d\n"
        "def broken(self): secret = 'host-name'; raise ZeroDivisionError(secret)\n"
        "d.DoctorScreen.session_changed = broken\n"
        "from wizard.cli.main import main\n"
        f"sys.exit(main(['--demo', '--script', {str(script)!r}]))"
    )
    settings = {**os.environ, "PYTHONPATH": str(FIXTURES.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=settings, timeout=LIMIT)
    assert done.returncode == 70
    assert done.stderr.startswith("smmu-wizard: an internal error (ZeroDivisionError at ")
    assert "Traceback" not in done.stderr + done.stdout
    assert "host-name" not in done.stderr
    (report,) = (tmp_path / "state" / "smmu-wizard").glob("crash-*.txt")
    assert "host-name" not in report.read_text()
    assert "broken" in report.read_text()


def test_an_error_in_a_worker_names_what_failed(tmp_path: Path) -> None:
    """The simulator is broken from outside: the report says where, not that it was a worker."""
    script = tmp_path / "demo.keys"
    script.write_text(f"press slash\ntype {NVME}\npress enter a enter enter 7\nwait 1\n")
    code = (
        "import sys, wizard.dryrun\n"
        "def broken(*a, **k): raise ZeroDivisionError\n"
        "wizard.dryrun.dry_run = broken\n"
        "from wizard.cli.main import main\n"
        f"sys.exit(main(['--demo', '--script', {str(script)!r}]))"
    )
    settings = {**os.environ, "PYTHONPATH": str(FIXTURES.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=settings, timeout=LIMIT)
    assert done.returncode == 70
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@contextmanager
def wizard_in_terminal(*, ignoring: Sequence[signal.Signals] = ()) -> Iterator[InTerminal]:
    """The wizard in a terminal of its own, ready for keys."""
    words = [sys.executable, "-m", "wizard", "--demo"]
    with in_terminal(words, environment={"PYTHONPATH": str(FIXTURES.parent)}, ignoring=ignoring) as wizard:
        wizard.shows(b"Help")
        yield wizard


def make_vm(wizard: InTerminal, state: Path) -> None:
    """Keys that give the NVMe to a new VM, until that is written down."""
    wizard.press(b"/", b"smmu3.0x")  # the line of the filter pushes the list down
    wizard.press(b"14:00", b"1 of 23 shown")
    wizard.press(b"\r", b"1 of 23 shown")
    wizard.press(b"a", b"new VM")
    wizard.press(b"\r", b"Name of the new VM")
    wizard.press(b"\r", b"has 1 function now")
    wait_until(lambda: any(state.glob("session-*.json")), "the session to be kept")


def kept_vms(state: Path) -> list[dict[str, Any]]:
    """The VMs of the one session that is kept, which is nobody else's to read."""
    (kept,) = state.glob("session-*.json")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    vms: list[dict[str, Any]] = json.loads(kept.read_bytes())["vms"]
    return vms


def test_a_session_that_was_cut_off_is_offered_again(tmp_path: Path) -> None:
    """A real terminal that goes away (SIGHUP), then another wizard."""
    state = tmp_path / "state" / "smmu-wizard"
    with wizard_in_terminal() as wizard:
        make_vm(wizard, state)
        os.kill(wizard.pid, signal.SIGHUP)
        assert wizard.end() == -signal.SIGHUP
    assert kept_vms(state)[0]["functions"][0]["host"] == NVME


async def test_the_kept_session_is_taken_up(tmp_path: Path) -> None:
    first = app(state=tmp_path)
    async with first.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter")
        assert list(tmp_path.glob("session-*.json"))
    second = app(state=tmp_path)
    async with second.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "was not ended")
        await press(pilot, "enter")
        assert second.session.owner(NVME) == "vm1"
        await press(pilot, "4", "w")
        assert not list(tmp_path.glob("session-*.json"))  # all of it is on disk now


async def test_a_broken_kept_session_is_said_and_left(tmp_path: Path) -> None:
    first = app(state=tmp_path)
    async with first.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter")
    (path,) = tmp_path.glob("session-*.json")
    path.write_bytes(b'{"version": 1')
    second = app(state=tmp_path)
    async with second.run_test(size=(80, 24)) as pilot:
        assert "can't be read" in await told(pilot, "can't be read")
    assert path.read_bytes() == b'{"version": 1'


@pytest.mark.parametrize("size", [(20, 5), (1, 1), (40, 10), (300, 100)])
async def test_no_size_of_terminal_ends_it(size: tuple[int, int]) -> None:
    wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter")
        for key in "1234567":
            await press(pilot, key)
            await pilot.resize_terminal(*size)
            await settle(pilot)
            await press(pilot, "down", "question_mark", "escape")
            await pilot.resize_terminal(80, 24)
            await settle(pilot)
        await press(pilot, "1")
        assert "smmu3.0x" in shown(pilot)
        assert wizard.session.owner(NVME) == "vm1"


async def test_names_with_markup_and_escapes_are_text() -> None:
    """A snapshot may come from a stranger."""
    facts = load(str(FIXTURES / "arm64-virt-canwbs.json"))
    wicked = "[bold red]x[/] \x1b[31m\x1b]52;c;AAAA\x07 \u202eevil [@click=app.quit]y[/]"
    functions = tuple(msgspec.structs.replace(f, device_name=wicked, driver=wicked) for f in facts.functions)
    wizard = WizardApp(host_of(msgspec.structs.replace(facts, functions=functions)), config=Config(ascii=False))
    async with wizard.run_test(size=(200, 50)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        text = shown(pilot)
        assert "[bold red]x[/] \\x1b[31m\\x1b]52;c;AAAA\\x07 \\u202eevil" in text
        await press(pilot, "enter", "escape", "a", "enter", "enter")
        for key in "234567":
            await press(pilot, key)
            assert "\x1b" not in shown(pilot)
            assert "\u202e" not in shown(pilot)


async def test_a_disk_that_fills_while_saving_loses_nothing(tmp_path: Path) -> None:
    """The kernel refuses to write more (RLIMIT_FSIZE, EFBIG): no file is left half-written, the session goes on."""
    wizard = app()
    async with wizard.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "4")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            await press(pilot, "w")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)
        assert "can't be written" in await said(pilot)
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []
        assert wizard.session.owner(NVME) == "vm1"
        await press(pilot, "w")
        assert (tmp_path / "vm1.toml").exists()


async def test_a_profile_that_changes_on_disk_while_it_is_open(tmp_path: Path) -> None:
    wizard = app()
    async with wizard.run_test(size=(100, 40)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "4", "w")
        path = tmp_path / "vm1.toml"
        path.write_text(path.read_text() + "# somebody else's note\n")
        await press(pilot, "2")
        wizard.screen.query_one("#fields").go_to("cpus")  # type: ignore[attr-defined]
        await press(pilot, "enter", "ctrl+a", "ctrl+k")
        await type_text(pilot, "1")
        await press(pilot, "enter", "4")
        assert "changed on disk since it was read" in shown(pilot)
        await press(pilot, "w")
        assert "changed on disk since it was read" in shown(pilot)
        await press(pilot, "y")
        assert "# somebody else's note" in path.read_text()


async def test_profiles_with_errors_are_opened_and_mended(tmp_path: Path) -> None:
    wizard = app()
    async with wizard.run_test(size=(100, 40)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "4", "w")
    profile = tmp_path / "vm1.toml"
    profile.write_text("# my own VM\n" + profile.read_text().replace("count = 2", 'count = "many"'))
    second = app()
    async with second.run_test(size=(100, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "2", "o", "enter")
        assert "count" in shown(pilot)
        assert "many" in shown(pilot)
        await press(pilot, "escape")
        assert second.session.owner(NVME) == "vm1"
        await press(pilot, "4", "w", "y")
    assert profile.read_text().startswith("# my own VM\n")
    assert "many" not in profile.read_text()


def test_the_configuration_gives_keys_and_keeps_the_theme(tmp_path: Path) -> None:
    directory = tmp_path / "config" / "smmu-wizard"
    directory.mkdir(parents=True)
    (directory / "wizard.toml").write_text('# mine\nascii = true\n[keys]\nassign = "g,f5"\n')
    config = load_config()
    assert config.ascii is True
    wizard = WizardApp(host(), config=config)
    play(wizard, parse_script(f"press slash\ntype {NVME}\npress enter f5\nexpect 'a new VM'\npress escape\n", tmp_path / "x"))
    wizard = WizardApp(host(), config=load_config())

    async def choose() -> None:
        async with wizard.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            wizard.theme = "nord"
            await pilot.pause(0.1)

    import asyncio

    asyncio.run(choose())
    text = (directory / "wizard.toml").read_text()
    assert text.startswith("# mine\n")
    assert 'theme = "nord"' in text
    assert load_config().theme == "nord"


def test_a_broken_configuration_is_said_and_not_overwritten(tmp_path: Path) -> None:
    directory = tmp_path / "config" / "smmu-wizard"
    directory.mkdir(parents=True)
    (directory / "wizard.toml").write_text("theme = 3\n")
    config = load_config()
    assert config.problem
    assert config.path is None


async def test_a_configuration_that_asks_for_what_there_is_not(tmp_path: Path) -> None:
    """Each thing is named; what is right in it holds."""
    text = 'theme = "mauve"\ncolour = "blue"\n[keys]\nassign = "g"\nassign-it = "x"\ntree = "ctrl+nothing"\nmark = ""\n'
    (tmp_path / "wizard.toml").write_text(text)
    async with app(config=load_config(tmp_path)).run_test(size=(80, 24)) as pilot:
        messages = await told(pilot, "mark can't have")
        for words in ("no setting colour", "no theme mauve", "no action assign-it", "tree can't have the key 'ctrl+nothing'", "mark can't have"):
            assert words in messages
        assert "assign can't" not in messages
        await press(pilot, "down", "down", "down", "g")
        assert "to a VM" in shown(pilot)


def test_every_name_of_the_help_can_be_configured() -> None:
    from wizard.tui.actions import action_names

    assert {"assign", "go-rehearse", "iort", "next-value", "replace", "up", "scroll-right"} <= action_names()


def test_a_polite_signal_leaves_the_terminal_in_order_and_the_session_kept(tmp_path: Path) -> None:
    state = tmp_path / "state" / "smmu-wizard"
    with wizard_in_terminal() as wizard:
        make_vm(wizard, state)
        os.kill(wizard.pid, signal.SIGTERM)
        assert wizard.end() == -signal.SIGTERM
        wizard.shows(b"ended by SIGTERM")
        # The alternate screen is left, the cursor shown: what a shell finds.
        assert wizard.seen.rindex(b"\x1b[?1049l") < wizard.seen.rindex(b"ended by SIGTERM")
        assert b"\x1b[?25h" in wizard.seen
    assert kept_vms(state)[0]["functions"][0]["host"] == NVME


def test_a_byte_of_another_character_set_ends_nothing() -> None:
    with wizard_in_terminal() as wizard:
        wizard.press(b"\xff\xfe")

        def doctor() -> bool:  # the key after such a byte may be lost with it
            wizard.press(b"6")
            return b"Drivers" in wizard.seen or b"Hardware" in wizard.seen

        wait_until(doctor, "the doctor")
        wizard.press(b"q")
        assert wizard.end() == 0
        assert b"Traceback" not in wizard.seen


def test_signals_that_were_ignored_from_the_start_are_ignored() -> None:
    """As under nohup, or in the background of a script: whoever started it so wants it to live on."""
    with wizard_in_terminal(ignoring=(signal.SIGHUP, signal.SIGTERM)) as wizard:
        os.kill(wizard.pid, signal.SIGTERM)
        os.kill(wizard.pid, signal.SIGHUP)
        wizard.press(b"6", b"Host")
        wizard.press(b"q")
        assert wizard.end() == 0


def test_a_terminal_that_goes_away_unsaid_ends_it() -> None:
    """As under nohup: no signal comes, and the terminal reads as an endless end of file."""
    with wizard_in_terminal(ignoring=(signal.SIGHUP,)) as wizard:
        wizard.hang_up()
        wizard.end()


async def test_pipes_and_devices_are_not_opened_as_profiles_or_snapshots(tmp_path: Path) -> None:
    """Reading one would wait for ever, or never end."""
    os.mkfifo(tmp_path / "pipe.toml")
    async with app().run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "2", "o", "ctrl+a", "ctrl+k")
        await type_text(pilot, "pipe.toml /dev/zero absent.toml")
        await press(pilot, "enter")
        # To be read as long as one likes, not a message that goes.
        await shows(pilot, "3 files not opened", "pipe.toml is no regular file", "/dev/zero is no regular file", "There is no file absent.toml")
        await press(pilot, "escape", "1", "p", "o", "ctrl+a", "ctrl+k")
        await type_text(pilot, "pipe.toml")
        await press(pilot, "enter")
        assert "pipe.toml is no regular file" in await said(pilot)


async def test_a_file_that_is_no_text_is_not_replaced_unasked(tmp_path: Path) -> None:
    held = b"\xff\xfe somebody's"
    (tmp_path / "vm1.toml").write_bytes(held)
    async with app().run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "4")
        assert "is there, and no text" in shown(pilot)
        await press(pilot, "w")
        assert "Replace?" in shown(pilot)
        assert "would be lost" in shown(pilot)
        await press(pilot, "escape")
        assert (tmp_path / "vm1.toml").read_bytes() == held
        assert not (tmp_path / "vm1.sh").exists()
        await press(pilot, "w", "y")
        assert (tmp_path / "vm1.toml").read_text().startswith("#:schema")


async def test_paging_in_a_palette_that_finds_nothing() -> None:
    """Textual 8.2 raises a KeyError there."""
    wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "ctrl+p")
        await type_text(pilot, "zzzz")
        await press(pilot, "pageup", "pagedown", "home", "end", "escape")
        assert wizard.crash is None
        assert "FUNCTION" in shown(pilot)
