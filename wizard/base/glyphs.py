"""The signs that screens are drawn with: Unicode, or ASCII where the terminal knows no more."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Glyphs(msgspec.Struct, frozen=True):
    """Every sign has one cell."""

    yes: str
    no: str
    unknown: str
    warning: str
    info: str
    mark: str
    open: str
    closed: str
    branch: str  # tree: there are more below
    last: str
    pipe: str
    across: str
    down: str
    more: str
    bullet: str
    arrow: str
    bar: str
    track: str
    new: str
    gone: str
    corner: str
    separator: str
    ascii: bool = False


UNICODE = Glyphs(
    yes="✔", no="✘", unknown="?", warning="▲", info="·", mark="●", open="▾", closed="▸", branch="├", last="└", pipe="│", across="─", down="┬",
    more="…", bullet="•", arrow="→", bar="█", track="░", new="+", gone="−", corner="╯", separator="│",
)  # fmt: skip
ASCII = Glyphs(
    yes="y", no="x", unknown="?", warning="!", info=".", mark="*", open="v", closed=">", branch="|", last="`", pipe="|", across="-", down="+",
    more="~", bullet="*", arrow=">", bar="#", track=".", new="+", gone="-", corner="+", separator="|", ascii=True,
)  # fmt: skip

_POOR = {"dumb", "vt52", "vt100", "vt102", "vt220", "linux"}


def glyphs_for(environment: Mapping[str, str], asked: bool | None = None) -> Glyphs:
    """ASCII when it was asked for, when the locale's character set is not UTF-8, or on a terminal of few signs."""
    if asked is not None:
        return ASCII if asked else UNICODE
    locale = environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment.get("LANG") or "UTF-8"
    narrow = "utf-8" not in locale.lower() and "utf8" not in locale.lower()
    return ASCII if narrow or environment.get("TERM", "") in _POOR else UNICODE
