"""Every action that can be given other keys, by the name that the configuration knows it by; and what is wrong with a configuration."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Iterator

from textual.binding import Binding
from textual.keys import Keys, key_to_character

from wizard.base.text import visible
from wizard.tui.config import Config

_MODIFIERS = ("ctrl+", "shift+", "alt+", "meta+", "super+", "hyper+")
_NAMED = frozenset(key.value for key in Keys)


def action_names() -> frozenset[str]:
    """The names of all bindings, of every screen, dialog and widget. Imports them all: for a worker."""
    import wizard.tui as room

    found: set[str] = set()
    for module in pkgutil.walk_packages(room.__path__, "wizard.tui."):
        for one in vars(importlib.import_module(module.name)).values():
            if isinstance(one, type):
                found |= {binding.id for binding in vars(one).get("BINDINGS", ()) if isinstance(binding, Binding) and binding.id}
    return frozenset(found)


def complaints(config: Config, themes: Collection[str]) -> Iterator[str]:
    """Sentences about what a configuration says that the wizard can't do; what is right in it holds."""
    where = visible(str(config.path))
    for name in config.unknown:
        yield f"{where}: there is no setting {visible(name)}; there are theme, ascii and [keys]."
    if config.theme and config.theme not in themes:
        yield f"{where}: there is no theme {visible(config.theme)}; the palette (ctrl+p) lists them."
    names = action_names() if config.keys else frozenset()
    for name, keys in config.keys.items():
        if name not in names:
            yield f"{where}: there is no action {visible(name)}; ? lists their names."
        for key in keys.split(","):
            if not _is_key(key.strip()):
                yield f"{where}: {visible(name)} can't have the key {visible(key.strip())!r}; write for example g, f5, ctrl+g or slash."


def _is_key(key: str) -> bool:
    if key in _NAMED:
        return True
    while key.startswith(_MODIFIERS):
        key = key.partition("+")[2]
    return key in _NAMED or (len(key) == 1 and key.isprintable()) or key_to_character(key) is not None
