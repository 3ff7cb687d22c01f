"""Following a live host: what its monitor tells, its figures, reading it again, or going over to a snapshot."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wizard.base.errors import InputError, WizardError
from wizard.base.finding import Finding, Severity
from wizard.base.text import plural, visible
from wizard.facts.model import Moment
from wizard.facts.source import SourceKind, recorded
from wizard.host.model import Host
from wizard.host.opening import open_host
from wizard.tui.files import trouble
from wizard.tui.live import FIGURES, Sources, differences, news, watch, with_lines

if TYPE_CHECKING:
    from wizard.tui.wizard import Wizard


class Following:
    """Workers that tell one app what changes. ``sources`` is None for a host that was recorded: it does not change."""

    def __init__(self, app: Wizard, sources: Sources | None) -> None:
        self.app = app
        self.sources = sources
        self._stop = threading.Event()

    def begin(self) -> None:
        """Start to follow."""
        if self.sources is not None:
            self.app.run_worker(self._watch, thread=True, group="watch")
            self.app.set_interval(FIGURES, lambda: self.app.run_worker(self._figures, thread=True, exclusive=True, group="figures"))

    def end(self) -> None:
        """No longer."""
        self._stop.set()

    def _watch(self) -> None:
        assert self.sources is not None

        def failed(error: WizardError) -> None:
            if not self._stop.is_set():
                self.app.call_from_thread(self.app.say, error, "warning")

        def changed(host: Host) -> None:
            if not self._stop.is_set():
                self.app.call_from_thread(self.show, host)

        watch(self.sources, self._stop, changed, failed)

    def _figures(self) -> None:
        if self.sources is not None and not self._stop.is_set():
            self.app.call_from_thread(self._figures_now, self.sources.moment())
            if lines := self.sources.log():
                old = self.app.host
                # A large host's log is read here, and not where keys wait.
                new = with_lines(old, lines)
                if new is not None:
                    self.app.call_from_thread(self._log_now, lines, old, new, news(old, new))

    def _log_now(self, lines: Sequence[str], old: Host, new: Host, fresh: Sequence[Finding]) -> None:
        if self.app.host is not old:  # read again meanwhile: the lines belong to what it is now
            new = with_lines(self.app.host, lines) or self.app.host
        self.app.show_host(new)
        self._tell_log(fresh)

    def _tell_log(self, fresh: Sequence[Finding]) -> None:
        for finding in fresh[:3]:
            self.app.say(finding.what, "error" if finding.severity is Severity.ERROR else "warning")
        if len(fresh) > 3:
            self.app.say(f"{plural(len(fresh) - 3, 'finding')} more of the kernel's log: see the doctor.", "warning")

    def _figures_now(self, moment: Moment) -> None:
        if moment != self.app.moment:
            self.app.moment = moment
            self.app.update_figures()

    def show(self, host: Host) -> None:
        """Another reading of the host: what is new, gone or on another driver is marked, the cursor stays."""
        app = self.app
        found = differences(app.host, host)
        fresh = news(app.host, host) if self.sources is not None else ()
        app.changes |= found
        app.moment = host.facts.moment
        app.show_host(host)
        for address, change in list(found.items())[:3]:
            driver = host.functions[address].facts.driver if address in host.functions else None
            words = {"new": "is new", "gone": "is gone"}.get(change) or (f"is on driver {driver} now" if driver else "has no driver now")
            app.say(f"{address} {words}.")
        if len(found) > 3:
            app.say(f"{plural(len(found) - 3, 'function')} more changed.")
        self._tell_log(fresh)

    def read_again(self) -> None:
        """Read a live host again now, in a worker."""
        sources = self.sources
        if sources is None:
            self.app.say("This host was recorded: it does not change. Start with --replay on a newer snapshot instead.")
            return

        def read() -> None:
            try:
                host = sources.read()
            except WizardError as error:
                self.app.call_from_thread(self.app.say, error, "error")
                return
            self.app.call_from_thread(self.show, host)

        self.app.changes.clear()
        self.app.run_worker(read, thread=True, exclusive=True, group="read")

    def open_recording(self, path: str) -> None:
        """Go on with a recording or a tree, for instance a snapshot with a probe in it, under the policy that the wizard was started with."""
        source = recorded(os.path.expanduser(path))

        def read() -> None:
            try:
                if source.kind is SourceKind.REPLAY and (what := trouble(source.path)):
                    raise InputError(f"{visible(path)} is {what}.", "A snapshot is a file that `smmu-wizard record` wrote.")
                host = open_host(source, self.app.policy)
            except WizardError as error:
                self.app.call_from_thread(self.app.say, error, "error")
                return
            self.app.call_from_thread(opened, host)

        def opened(host: Host) -> None:
            self.end()
            self.sources = None
            self.app.source = source
            self.show(host)

        self.app.run_worker(read, thread=True, exclusive=True, group="read")
