"""Python's collector of cycles, kept away from where very many objects are made that all stay.

It walks what it knows after each hundred thousand new objects: of a host with thousands of functions, again and again, and finds nothing to free.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Nothing is collected meanwhile; inside another one, or where somebody has switched the collector off, it stays off."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()
