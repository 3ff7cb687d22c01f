"""Explain: what was pasted, and its first cause on this host and with these VMs."""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import cache
from typing import ClassVar

from textual import events, on, work
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.worker import get_current_worker

from wizard.base.text import size
from wizard.explain.judge import judge_of
from wizard.explain.matcher import Matcher
from wizard.explain.report import MessageView, Report, explain
from wizard.tui.explain_lines import list_lines, start_lines, whole_lines
from wizard.tui.files import LIMIT, trouble
from wizard.tui.lines import Line, line
from wizard.tui.screens.base import WizardScreen
from wizard.tui.screens.dialogs import Prompt, Read
from wizard.tui.widgets.lines import LinesView


@cache
def _matcher() -> Matcher:
    return Matcher()


class ExplainScreen(WizardScreen):
    """A place to paste: messages above, the one under the cursor whole below."""

    SCREEN = "explain"
    ENTER = "Read it whole"
    ABOUT = """\
Paste what was said: a message, a log of QEMU or libvirt, dmesg, the journal, a guest's console. The messages that are known are
found in it, the first cause is named and what follows from it, and each cause is held against this host and the VMs that are planned here.

t types a message, o opens a file; c sends the next step to the terminal's clipboard."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "type", "Type", id="type-message"),
        Binding("o", "open", "Open a log", id="open-log"),
        Binding("c", "copy", "Copy fix", id="copy-message-fix"),
    ]
    DEFAULT_CSS = """
    ExplainScreen {
        #messages { height: 1fr; }
        #told { height: 2fr; background: $surface; }
        &.-tiny #told, &.-short #told { display: none; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._report: Report | None = None
        self._words = "explain -"
        self._reading = False

    def body(self) -> Iterable[Widget]:
        yield LinesView(id="messages", classes="first", title="Messages")
        yield LinesView(id="told", title="What it means here")

    def command(self) -> str:
        return self._words

    def session_changed(self) -> None:
        self._show()

    def on_paste(self, event: events.Paste) -> None:
        """A paste comes whole, however long it is; a terminal that has no bracketed paste types it, which `o` is for."""
        event.stop()
        self.take(event.text.encode("utf-8", "replace"), "explain -")

    def take(self, data: bytes, words: str) -> None:
        """Explain it, in a worker."""
        if len(data) > LIMIT:
            self.wizard.say(f"That is more than {size(LIMIT)}: explain the file by the command.", "warning")
            return
        self._words, self._reading = words, True
        self._show()
        self._explain(data)

    @work(thread=True, exclusive=True)
    def _explain(self, data: bytes) -> None:
        worker = get_current_worker()
        judge = judge_of(self.wizard.host, self.wizard.plan, "this host")
        found = explain(io.BytesIO(data), judge, matcher=_matcher())
        if not worker.is_cancelled:
            self.app.call_from_thread(self._explained, found)

    def _explained(self, found: Report) -> None:
        self._report, self._reading = found, False
        self.update()
        self.query_one("#messages", LinesView).go_to(found.first if found.first is not None else 0)
        self._tell()

    def _show(self) -> None:
        self.query_one("#messages", LinesView).show(self._lines)
        self._tell()

    def _lines(self, width: int) -> list[Line]:
        if self._reading:
            return [line(("reading …", "dim"))]
        return start_lines(width) if self._report is None else list_lines(self._report, width, self.wizard.glyphs)

    @on(LinesView.Moved, "#messages")
    def _moved(self) -> None:
        self._tell()

    def _message(self) -> MessageView | None:
        key = self.query_one("#messages", LinesView).cursor
        known = self._report.messages if self._report and not self._reading else ()
        return known[key] if isinstance(key, int) and key < len(known) else None

    def _tell(self) -> None:
        one, glyphs = self._message(), self.wizard.glyphs
        self.query_one("#told", LinesView).show(lambda width: whole_lines(one, width, glyphs) if one else [], top=True)

    @on(LinesView.Chosen, "#messages")
    def _read(self) -> None:
        if (one := self._message()) is not None:
            glyphs = self.wizard.glyphs
            self.app.push_screen(Read(one.id, lambda width: whole_lines(one, width, glyphs)))

    def action_copy(self) -> None:
        one = self._message()
        fix = next((cause.fix for cause in one.causes if cause.state != "ruled out"), one.fix) if one else ""
        if fix:
            self.wizard.copy(fix)

    def action_type(self) -> None:
        def answered(text: str | None) -> None:
            if text:
                self.take(text.encode("utf-8", "replace"), "explain -")

        self.app.push_screen(Prompt("Explain a message", note="As it was said; what varies may be N or …"), answered)

    def action_open(self) -> None:
        def answered(path: str | None) -> None:
            if not path:
                return
            text = None if trouble(path) else self.wizard.read_text(path)
            if text is None:
                self.wizard.say(f"{path} can't be read as text here: explain it by the command.", "warning")
                return
            import shlex

            self.take(text.encode("utf-8", "replace"), f"explain {shlex.quote(path)}")

        self.app.push_screen(Prompt("Open a log"), answered)
