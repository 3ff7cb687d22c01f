"""One paint for a key.

Textual (8.2.8) paints as soon as one widget asks for it, and again 1/60 s later what the others asked for meanwhile: the cursor moves at once,
the detail beside it comes with the next tick. A key is answered when all of it is there. So what it changes is painted when it is through
(``wizard.tui.keys``), at once and not at the next tick. Layouts, resizes and callbacks go on meanwhile, and nothing is held longer than ``HOLD``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.screen import Screen

from wizard.tui.keys import KeysInOrder

# No widget itself: Textual takes the styles of a class from its first base that is one, and a dialog's are those of ModalScreen.
if TYPE_CHECKING:
    _Screen = Screen[Any]
else:
    _Screen = object


class PaintedOnce(_Screen):
    """What makes a screen wait with its paint while a key is on its way."""

    def _compositor_refresh(self) -> None:
        app = self.app
        if isinstance(app, KeysInOrder) and self is app.screen and app.hold_paint():
            # What is to be painted stays with the compositor, which knew of these before it was asked.
            self._dirty_widgets.clear()
            return
        super()._compositor_refresh()

    def paint_now(self) -> None:
        """Paint all that is to be painted, also of widgets whose word of it has not come yet."""
        if not self.is_current or self.app._batch_count:
            return
        for widget in self._compositor.visible_widgets:
            if widget._repaint_regions and widget.display:
                self._dirty_widgets.add(widget)
        with self._context():
            self._on_timer_update()
            if self._compositor._dirty_regions:
                self._compositor_refresh()
