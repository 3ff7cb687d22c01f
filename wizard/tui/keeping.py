"""Nothing is lost: the session is written down while it is unfinished, and offered again when the wizard starts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from wizard.base.errors import WizardError
from wizard.base.text import plural
from wizard.tui import config as config_room
from wizard.tui.config import Unfinished

if TYPE_CHECKING:
    from wizard.tui.app import WizardApp


class Keeper:
    """Keeps the session of one app in a directory; without a directory nothing is kept."""

    def __init__(self, app: WizardApp, directory: Path | None) -> None:
        self.app = app
        self.directory = directory

    def _host(self) -> str:
        # The pseudonym stays when a device is plugged; a host without one is known by its digest.
        host = self.app.host
        return host.facts.identity.host or host.digest

    def _path(self) -> Path:
        assert self.directory is not None
        return config_room.session_path(self.directory, self._host())

    def begin(self) -> None:
        """Look for a kept session, in a worker: the digest of a large host takes a while."""
        if self.directory is not None:
            self.app.run_worker(self._look, thread=True, group="offer")

    def keep(self) -> None:
        """Write the session down, in a worker."""
        if self.directory is not None:
            session = self.app.session

            def write() -> None:
                try:
                    config_room.keep_session(self._path(), session, host=self._host(), now=time.strftime("%Y-%m-%d %H:%M"))
                except WizardError as error:
                    self.app.call_from_thread(self.app.say, error, "warning")

            self.app.run_worker(write, thread=True, exclusive=True, group="keep")

    def forget(self) -> None:
        """It was ended by hand, or all of it is on disk."""
        if self.directory is not None:
            self.app.workers.cancel_group(self.app, "keep")
            config_room.forget_session(self._path())

    def _look(self) -> None:
        try:
            kept = config_room.kept_session(self._path(), self._host())
        except WizardError as error:
            self.app.call_from_thread(self.app.say, error, "warning")
            return
        if kept is not None:
            self.app.call_from_thread(self._offer, kept)

    def _offer(self, kept: Unfinished) -> None:
        app = self.app
        if app.session.vms:
            return
        from wizard.tui.screens.dialogs import Choose, choices

        names = ", ".join(f"{vm.name} ({plural(len(vm.functions), 'function')})" for vm in kept.vms)
        text = [f"A session of {kept.time} on this host was not ended: {names}.", ""]
        items = [("go on", "Go on with it"), ("later", "Start afresh, and leave it until something is done"), ("drop", "Forget it")]

        def answered(answer: object) -> None:
            if answer == "go on":
                app.do("go on with the kept session", kept.session())
                app.action_go("vms")
            elif answer == "drop":
                self.forget()

        app.push_screen(Choose("Unfinished session", choices(text, items)), answered)
