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
from wizard.cli.crash import report, state_directory
from wizard.cli.source import host_for, source_of

COLLECT = 20_000  # objects made and not yet gone until the collector looks for rings among them


def run(arguments: argparse.Namespace) -> int:
    """Read the host, then open the wizard or play a script."""
    script = getattr(arguments, "script", None)
    if script is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "The wizard needs a terminal.",
            "Use a command instead (list, show, plan, check, export: see smmu-wizard --help), or --script FILE to play keys without one.",
        )
    gc.disable()
    host = host_for(arguments)
    from wizard.tui.app import WizardApp
    from wizard.tui.config import Config, load_config

    spare_collector()
    gc.enable()

    source, policy = source_of(arguments), arguments.policy
    if script is not None:
        from wizard.tui.script import play, read_script

        steps = read_script(Path(script))
        app = WizardApp(host, source=source, policy=policy, config=Config(ascii=steps.ascii, theme=steps.theme))
        play(app, steps)
    else:
        live = None
        if source.live:
            from wizard.tui.live import live_sources

            live = live_sources(lambda: host_for(arguments))
        app = WizardApp(host, source=source, policy=policy, config=load_config(), state_directory=state_directory(), live=live)
        app.run()
    if app.ended is not None:
        return _ended(app.ended, app.lost)
    if app.crash is not None:
        with suppress(WizardError):  # the report matters more than why this failed, too
            app.keeper.keep_now()
        print(f"smmu-wizard: {report(app.crash)}", file=sys.stderr)
        return int(Exit.INTERNAL)
    return int(Exit.OK)


def spare_collector() -> None:
    """The host stays as long as the wizard does: the collector need not walk its objects while keys wait, nor look for every 700 new ones.

    A filter of a large host makes tens of thousands of rows for each letter; a hundred collections took as long as the letter itself.
    """
    gc.freeze()
    gc.set_threshold(COLLECT)


def _ended(number: int, lost: WizardError | None) -> int:
    """As whoever sent the signal expects: by that signal, but with the terminal in order and the session kept. Does not come back."""
    words = "what was unfinished is kept and offered again next time." if lost is None else f"the unfinished session is lost: {lost.what}"
    with suppress(OSError):  # the terminal may be gone
        print(f"smmu-wizard: ended by {signal.Signals(number).name}; {words}", file=sys.stderr, flush=True)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number
