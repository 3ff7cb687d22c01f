"""The wizard: a terminal program over the host, or the same headless with ``--script``."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from wizard.base.errors import UsageError, WizardError
from wizard.base.exits import Exit
from wizard.base.text import visible
from wizard.cli.crash import report, state_directory
from wizard.cli.source import facts_of
from wizard.host.build import host_of


def run(arguments: argparse.Namespace) -> int:
    """Read the host, then open the wizard or play a script."""
    script = getattr(arguments, "script", None)
    if script is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "The wizard needs a terminal.",
            "Use a command instead (list, show, plan, check, export: see smmu-wizard --help), or --script FILE to play keys without one.",
        )
    # The host stays as long as the wizard does: the collector need not walk its objects again and again while keys wait.
    gc.disable()
    host = host_of(facts_of(arguments))
    from wizard.tui.app import WizardApp
    from wizard.tui.config import Config, load_config

    gc.freeze()
    gc.enable()

    source = _source(arguments)
    if script is not None:
        from wizard.tui.script import play, read_script

        steps = read_script(Path(script))
        app = WizardApp(host, source=source, config=Config(ascii=steps.ascii, theme=steps.theme))
        play(app, steps)
    else:
        live = None
        if not source:
            from wizard.tui.live import live_sources

            live = live_sources(lambda: facts_of(arguments))
        app = WizardApp(host, source=source, config=load_config(), state_directory=state_directory(), live=live)
        app.run()
    if app.ended is not None:
        return _ended(app.ended, app.lost)
    if app.crash is not None:
        with suppress(WizardError):  # the report matters more than why this failed, too
            app.keeper.keep_now()
        print(f"smmu-wizard: {report(app.crash)}", file=sys.stderr)
        return int(Exit.INTERNAL)
    return int(Exit.OK)


def _ended(number: int, lost: WizardError | None) -> int:
    """As whoever sent the signal expects: by that signal, but with the terminal in order and the session kept. Does not come back."""
    words = "what was unfinished is kept and offered again next time." if lost is None else f"the unfinished session is lost: {lost.what}"
    with suppress(OSError):  # the terminal may be gone
        print(f"smmu-wizard: ended by {signal.Signals(number).name}; {words}", file=sys.stderr, flush=True)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


def _source(arguments: argparse.Namespace) -> tuple[str, ...]:
    words: list[str] = []
    for name in ("replay", "root", "policy"):
        if value := getattr(arguments, name, None):
            words += [f"--{name}", visible(value)]
    if getattr(arguments, "demo", False):
        words.append("--demo")
    return tuple(words)
