"""Nothing is lost: the session is written down while it is unfinished, and offered again when the wizard starts."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from wizard.base.errors import WizardError
from wizard.base.text import plural
from wizard.tui import config as config_room
from wizard.tui.config import Unfinished

if TYPE_CHECKING:
    from wizard.tui.state import Session
    from wizard.tui.wizard import Wizard


PATIENCE = 5.0  # seconds to wait for a kept session to be read


class Keeper:
    """Keeps the session of one app in a directory; without a directory nothing is kept."""

    def __init__(self, app: Wizard, directory: Path | None) -> None:
        self.app = app
        self.directory = directory
        # Workers write in any order: what is older than the file, or than its removal, is not written any more.
        self._lock = threading.Lock()
        self._looked = threading.Event()  # nothing is written over a kept session before it was read
        self._asked = 0
        self._done = 0
        self._told = ""

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
            self._asked += 1
            session, number = self.app.session, self._asked

            def write() -> None:
                try:
                    self._write(session, number)
                except WizardError as error:
                    self.app.call_from_thread(self._failed, error)

            self.app.run_worker(write, thread=True, exclusive=True, group="keep")

    def keep_now(self) -> None:
        """Write it down at once: the wizard is about to end. ``OutputError`` when it can't be written."""
        if self.directory is not None and self.app.session.vms and self.app.saved != self.app.session:
            self._asked += 1
            self._write(self.app.session, self._asked)

    def _write(self, session: Session, number: int) -> None:
        self._looked.wait(PATIENCE)
        with self._lock:
            if number > self._done:
                self._done = number
                config_room.keep_session(self._path(), session, host=self._host(), now=time.strftime("%Y-%m-%d %H:%M"))

    def _failed(self, error: WizardError) -> None:
        # It fails at every step then: said once is enough.
        if error.what != self._told:
            self._told = error.what
            self.app.say(error, "warning")

    def forget(self) -> None:
        """It was ended by hand, or all of it is on disk."""
        if self.directory is not None:
            self._asked += 1
            with self._lock:
                self._done = self._asked
                try:
                    config_room.forget_session(self._path())
                except WizardError as error:
                    self._failed(error)

    def _look(self) -> None:
        try:
            kept = config_room.kept_session(self._path(), self._host())
        except WizardError as error:
            self.app.call_from_thread(self.app.say, error, "warning")
            return
        finally:
            self._looked.set()
        if kept is not None:
            self.app.call_from_thread(self._offer, kept)

    def _offer(self, kept: Unfinished) -> None:
        app = self.app
        from wizard.tui.screens.dialogs import Choose, choices

        names = ", ".join(f"{vm.name} ({plural(len(vm.functions), 'function')})" for vm in kept.vms)
        text = [f"A session of {kept.time} on this host was not ended: {names}."]
        if kept.pid != os.getpid() and os.path.exists(f"/proc/{kept.pid}"):
            text.append(f"It may still be open: there is a process {kept.pid}, which wrote it.")
        text.append("")
        items = [("go on", "Go on with it"), ("later", "Start afresh, and leave it until something is done"), ("drop", "Forget it")]

        def answered(answer: object) -> None:
            if answer == "go on":
                app.do("go on with the kept session", kept.session())
                app.action_go("vms")
            elif answer == "drop":
                self.forget()

        app.push_screen(Choose("Unfinished session", choices(text, items)), answered)
