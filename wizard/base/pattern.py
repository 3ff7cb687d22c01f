"""Regular expressions that are compiled when they are first asked for anything.

A module of patterns costs a start what compiling them costs, some tenth of a millisecond each, and most commands meet few of the lines
that they are for. What has been compiled is as fast as any: its methods become attributes of the object.
"""

from __future__ import annotations

import re
from typing import Any, cast


class _Later:
    def __init__(self, pattern: str, flags: int) -> None:
        self._pattern, self._flags = pattern, flags

    def __getattr__(self, name: str) -> Any:  # asked for what is not there yet: everything, the first time
        compiled = re.compile(self._pattern, self._flags)
        for method in ("match", "search", "fullmatch", "sub", "finditer"):
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


def later(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """What ``re.compile`` gives, compiled at its first use: of methods and attributes, not as an argument of functions of ``re``."""
    return cast("re.Pattern[str]", _Later(pattern, flags))
