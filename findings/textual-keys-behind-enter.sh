#!/bin/bash
# Expected: keys take effect in the order in which they are typed: enter submits the line that stands in an Input, and the letters typed
#   behind it are for whatever has the focus then.
# Happens: of a burst (a fast typist on a slow line, a paste, tmux send-keys) the letters behind enter are part of what enter submits. A
#   printable key is inserted as soon as the Input sees it; the binding of enter runs only when its event has bubbled up to the app and come
#   back as an action (App.on_event, Input._on_key, Input.action_submit), which is behind the letters.
# Version: textual 8.2.8, Python 3.11
# Output seen: typed: web enter xy; the dialog answered 'webxy'; the screen below got: nothing
# Needs: Python 3 with venv, pip; everything is installed in a temporary folder.
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check textual==8.2.8
cat > app.py <<'PYTHON'
import asyncio

from textual import events
from textual.app import App
from textual.screen import ModalScreen
from textual.widgets import Input


class Question(ModalScreen[str]):
    def compose(self):
        yield Input()

    def on_input_submitted(self, event):
        self.dismiss(event.value)


class Below(App):
    BINDINGS = [("o", "ask", "Ask"), ("x", "got('x')", "x"), ("y", "got('y')", "y")]

    def __init__(self):
        super().__init__()
        self.got, self.answer = [], None

    def action_ask(self):
        self.push_screen(Question(), lambda answer: setattr(self, "answer", answer))

    def action_got(self, key):
        self.got.append(key)


async def main():
    app = Below()
    async with app.run_test() as pilot:
        await pilot.press("o", "w", "e", "b")
        for key in ("enter", "x", "y"):  # a burst, as a terminal's driver posts it
            app.post_message(events.Key(key, key if len(key) == 1 else None))
        await pilot.pause(1)
    got = ", ".join(map(repr, app.got)) or "nothing"
    print(f"typed: web enter xy; the dialog answered {app.answer!r}; the screen below got: {got}")
    return app.answer == "webxy" and not app.got


raise SystemExit(0 if asyncio.run(main()) else 1)
PYTHON
venv/bin/python app.py
