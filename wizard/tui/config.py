"""The wizard's own files: theme and keys in the XDG config directory, an unfinished session in the state directory; mode 0600."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from wizard.base import toml
from wizard.base.directories import make_directory
from wizard.base.errors import InputError, OutputError
from wizard.base.files import PRIVATE, write_atomic
from wizard.base.places import own
from wizard.base.text import visible
from wizard.plan.request import VmRequest
from wizard.tui.state import Session

NAME = "wizard.toml"


@dataclass(frozen=True)
class Config:
    """What a person chose. ``keys`` maps the id of a binding (listed under ``?``) to its keys, with commas between."""

    theme: str | None = None
    ascii: bool | None = None
    keys: dict[str, str] = field(default_factory=dict)
    path: Path | None = None
    problem: str | None = None  # why the file was not used
    unknown: tuple[str, ...] = ()  # settings that there are not


def config_directory() -> Path:
    """The XDG config directory of the effective user."""
    return own("XDG_CONFIG_HOME", ".config")


def load_config(directory: Path | None = None) -> Config:
    """The configuration; a broken file is reported in ``problem`` and never overwritten."""
    path = (directory or config_directory()) / NAME
    try:
        read = toml.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Config(path=path)
    except (OSError, ValueError) as error:
        return Config(path=None, problem=f"{visible(str(path))} can't be used: {visible(str(error))}.")
    keys, theme, plain = read.get("keys", {}), read.get("theme"), read.get("ascii")
    if (
        not isinstance(keys, dict)
        or not all(isinstance(value, str) for value in keys.values())
        or not isinstance(theme, (str, type(None)))
        or not isinstance(plain, (bool, type(None)))
    ):
        return Config(path=None, problem=f"{visible(str(path))} can't be used: theme is a string, ascii true or false, [keys] a table of strings.")
    return Config(
        theme=theme, ascii=plain, keys=dict(keys), path=path, unknown=tuple(name for name in read if name not in ("theme", "ascii", "keys"))
    )


def save_theme(config: Config, theme: str) -> Config:
    """Keep a chosen theme, and everything else that the file holds. ``OutputError`` when it can't be written."""
    if config.path is None or config.theme == theme:
        return replace(config, theme=theme)
    import tomlkit

    try:
        text = config.path.read_text(encoding="utf-8") if config.path.exists() else ""
        document = tomlkit.parse(text)
        document["theme"] = theme
        make_directory(config.path.parent, 0o700)
    except (OSError, ValueError) as error:
        raise OutputError(f"{visible(str(config.path))} can't be written: {visible(str(error))}.", "The theme holds for this session.") from error
    write_atomic(config.path, tomlkit.dumps(document), force=True, mode=PRIVATE)
    return replace(config, theme=theme)


class Unfinished(msgspec.Struct, frozen=True, kw_only=True):
    """A session that was not ended by hand: for which host, since when, by which process, and what was asked for."""

    version: int = 1
    host: str  # the host's pseudonym, else its digest
    time: str
    pid: int
    vms: tuple[VmRequest, ...]
    current: str | None = None
    files: tuple[tuple[str, str], ...] = ()

    def session(self) -> Session:
        """As the wizard goes on with it."""
        return Session(self.vms, self.current, self.files)


def session_path(directory: Path, host: str) -> Path:
    """Where the session of a host is kept."""
    return directory / f"session-{hashlib.sha256(host.encode()).hexdigest()[:16]}.json"


def keep_session(path: Path, session: Session, *, host: str, now: str) -> None:
    """Write it down; nothing asked for, nothing kept. ``OutputError`` when it can't be written."""
    if not session.vms:
        forget_session(path)
        return
    kept = Unfinished(host=host, time=now, pid=os.getpid(), vms=session.vms, current=session.current, files=session.files)
    try:
        make_directory(path.parent, 0o700)
    except OSError as error:
        raise OutputError(f"{visible(str(path.parent))} can't be made: {error.strerror}.", "The session is not kept; save what you have.") from error
    write_atomic(path, msgspec.json.encode(kept), force=True, mode=PRIVATE)


def forget_session(path: Path) -> None:
    """It was ended by hand. ``OutputError`` when the file can't be removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{visible(str(path))} can't be removed: {error.strerror}.", "It is offered again next time; remove it by hand.") from error


def kept_session(path: Path, host: str) -> Unfinished | None:
    """The unfinished session of this host, None when there is none. ``InputError`` when it can't be read."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Unfinished)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"The unfinished session {visible(str(path))} can't be read.", "It is left where it is; move it away to start afresh."
        ) from error
    return kept if kept.host == host and kept.vms else None
