"""How much of a host is read: all that there is to know of it, or what a table of its functions shows.

A list of a host with thousands of functions spends most of its time in the kernel, opening files: what it does not show is not opened.
"""

from __future__ import annotations

from enum import Enum


class Scope(Enum):
    """What is read of each function and group, and of the host around them."""

    WHOLE = "whole"
    TABLE = "table"  # names, places, and what verdicts rest on; nothing that is only to be done before a function can be given away
