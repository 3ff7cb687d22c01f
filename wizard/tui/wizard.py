"""The wizard as its screens and helpers see it: the host, what is asked for, its plan, and a word to the person.

``wizard.tui.app`` puts it together with the screens; nothing below a screen imports that.
"""

from __future__ import annotations

import os
import shlex
import signal
import time
from typing import Any

from wizard.base.errors import WizardError
from wizard.base.glyphs import glyphs_for
from wizard.base.text import plural, visible
from wizard.facts.model import Moment
from wizard.facts.source import LIVE, Source
from wizard.host.model import Host
from wizard.plan.model import Plan
from wizard.tui import state
from wizard.tui.config import Config
from wizard.tui.describe import host_words
from wizard.tui.files import read_text
from wizard.tui.job import Results, Step, steps
from wizard.tui.keys import KeysInOrder
from wizard.tui.rows import Index
from wizard.tui.state import History, Session

FEW = 64  # functions of all VMs up to which a plan may be made while the key waits
QUICK = 0.03  # seconds that a plan may take before it moves to a worker


class Wizard(KeysInOrder):
    """One host, one session, one plan. What it needs of the whole app is left to ``WizardApp``: those raise NotImplementedError here."""

    def __init__(self, host: Host, *, source: Source = LIVE, policy: str | None = None, config: Config | None = None, session: Session | None = None):
        super().__init__()
        self.config = config or Config()
        self.glyphs = glyphs_for(os.environ, self.config.ascii)
        self.index = Index(host)
        self.source = source
        self.policy = policy  # a policy file, which holds for every host that is opened here
        self.history: History = state.started(session or Session())
        self.plan: Plan | None = None
        self.planning = False
        self.results = Results()
        self.saved: Session = self.history.now
        self.moment: Moment = host.facts.moment  # what moves on a host that is followed: free memory, hugepages
        self.changes: dict[str, str] = {}  # address -> new, gone, driver: since the wizard was opened
        self.seen: dict[str, str] = {}  # file -> its text when it was read or written here last
        self._planned: tuple[Host, tuple[Any, ...]] | None = None
        self._quick = True

    # What is known.

    @property
    def host(self) -> Host:
        """The host as it was read last."""
        return self.index.host

    @property
    def session(self) -> Session:
        """What is asked for."""
        return self.history.now

    @property
    def title_words(self) -> str:
        """The host in one line."""
        return host_words(self.host)

    @property
    def source_words(self) -> tuple[str, ...]:
        """The options that name this host and its policy."""
        return (*self.source.words, *(("--policy", self.policy) if self.policy else ()))

    def command_words(self, words: str) -> str:
        """A command that does without a terminal what the screen does."""
        return visible(shlex.join(["smmu-wizard", *self.source_words])) + (f" {words}" if words else "")

    def job_steps(self) -> list[Step]:
        """How the whole job stands."""
        done = self.saved == self.session
        return steps(self.host, self.session, self.plan, self.results, exported=done, glyphs=self.glyphs)

    @property
    def few(self) -> bool:
        """Whether a plan may be made while the key waits."""
        return sum(len(vm.functions) for vm in self.session.vms) <= FEW

    # Changing it.

    def do(self, label: str, session: Session, plan: Plan | None = None) -> None:
        """One step: into the history, to the planner, to the screen, and kept. ``plan`` is that of the session where it was made already."""
        self.history = state.done(self.history, label, session)
        if plan is not None:
            self._planned, self.plan, self.planning = (self.host, session.vms), plan, False
        self._changed()

    def look(self, session: Session) -> None:
        """Another VM in hand: nothing to undo, nothing to plan."""
        last = self.history.past[-1]
        self.history = History((*self.history.past[:-1], state.Step(last.label, session)), self.history.future)
        self.update_screen()

    def _changed(self) -> None:
        self.replan()
        self.update_screen()
        self.keep_session()

    def replan(self) -> None:
        """The plan of the session; in a worker when the last one took long."""
        key = (self.host, self.session.vms)
        if self._planned is not None and self._planned[0] is key[0] and self._planned[1] == key[1]:
            return
        self._planned = key
        if not self.session.vms:
            self.plan, self.planning = None, False
            return
        if self._quick and self.few:
            self.plan, self.planning = self._make(), False
        else:
            self.planning = True
            self.run_worker(self._make_later, thread=True, exclusive=True, group="plan")

    def _make(self) -> Plan:
        from wizard.plan.planner import make_plan

        start = time.perf_counter()
        plan = make_plan(self.host, self.session.request())
        self._quick = time.perf_counter() - start < QUICK
        return plan

    def plan_now(self) -> None:
        """The plan that a worker is at, at once: a key needs it."""
        if self.planning and self.few:
            self.workers.cancel_group(self, "plan")
            self.plan, self.planning = self._make(), False
            self.update_screen()

    def _make_later(self) -> None:
        from textual.worker import get_current_worker

        worker, plan = get_current_worker(), self._make()
        if not worker.is_cancelled:
            self.call_from_thread(self._planned_now, plan)

    def _planned_now(self, plan: Plan) -> None:
        self.plan, self.planning = plan, False
        self.update_screen()

    def show_host(self, host: Host) -> None:
        """Another reading of the host, or another host: plan and screens follow."""
        self.index = Index(host)
        self.replan()
        self.update_screen()

    def exported(self, session: Session) -> None:
        """What is asked for is on disk now: nothing is unfinished."""
        self.history = History((*self.history.past[:-1], state.Step(self.history.past[-1].label, session)), self.history.future)
        self.saved = session
        self.forget_session()
        self.update_screen()

    # Files.

    def read_text(self, path: str) -> str | None:
        """The text of a file; None when there is none that can be read as text."""
        return read_text(path)

    def on_disk(self, name: str) -> str | None:
        """The text of the file that a VM was opened from or written to."""
        path = self.session.file_of(name)
        return None if path is None else self.read_text(path)

    def changed_on_disk(self, path: str) -> bool:
        """Whether somebody else wrote a file since it was read or written here."""
        return path in self.seen and self.read_text(path) != self.seen[path]

    # Telling the person.

    def say(self, message: str | WizardError, severity: str = "information") -> None:
        """A short message in the corner; never markup."""
        text = f"{message.what} {message.fix}" if isinstance(message, WizardError) else message
        self.notify(visible(text), severity=severity, markup=False, timeout=3 if severity == "information" else 6)  # type: ignore[arg-type]

    def copy(self, text: str) -> None:
        """To the terminal's clipboard by OSC 52, which gives no answer."""
        self.copy_to_clipboard(text)
        self.say(f"Sent {plural(len(text.splitlines()), 'line')} to the terminal's clipboard. It gives no answer: if nothing arrives, save.")

    # What takes the whole app.

    def update_screen(self) -> None:
        """The screen that is up shows what is so now."""
        raise NotImplementedError

    def tried(self) -> None:
        """A dry run or a rehearsal came out: the job's line says so."""
        raise NotImplementedError

    def update_figures(self) -> None:
        """The figures of the host moved."""
        raise NotImplementedError

    def keep_session(self) -> None:
        """Write down what is asked for, so that it is not lost."""
        raise NotImplementedError

    def forget_session(self) -> None:
        """It was ended by hand, or all of it is on disk."""
        raise NotImplementedError

    def read_again(self) -> None:
        """Read a live host again now."""
        raise NotImplementedError

    def open_recording(self, path: str) -> None:
        """Go on with a recording or a tree, under the policy that the wizard was started with."""
        raise NotImplementedError

    def ended_by(self, number: int = signal.SIGHUP) -> None:
        """End at once, with the session written down: a signal came, or the terminal is gone."""
        raise NotImplementedError

    def action_go(self, name: str) -> None:
        """To another screen."""
        raise NotImplementedError
