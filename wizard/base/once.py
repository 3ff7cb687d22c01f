"""A value of an object that is worked out when it is first asked for.

``functools.cached_property`` of Python 3.11 takes a lock each time that it works something out (3.12 gave that up), which of thousands of small
values is most of their price. Two threads that ask at once may both work it out, as from 3.12 on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class once(Generic[T]):
    """``@once`` above a method without arguments makes it a value that is kept in the object's ``__dict__``."""

    def __init__(self, work: Callable[[Any], T]) -> None:
        self._work = work
        self._name = ""
        self.__doc__ = work.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Self | T:
        if instance is None:
            return self
        found = instance.__dict__[self._name] = self._work(instance)
        return found
