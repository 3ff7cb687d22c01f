"""What `scripts/recorder` puts in the place of words that Python 3.6 lacks (scripts/lib/older.py); Python 3.6 itself.

Where the Python that runs has the real thing, that is taken.
"""

import functools
import gzip
import ipaddress as _ipaddress
import os
import re
import tempfile
from enum import Enum
from types import SimpleNamespace

try:
    import tomllib
except ImportError:
    import _tomllib as tomllib  # noqa: F401 (taken from here)


class Box:
    """Names that are assigned within expressions."""

    def put(self, name, value):
        """``(name := value)``."""
        setattr(self, name, value)
        return value


class Generic:
    """``list[int]`` as what it is made of: for the decoder, which reads types."""

    def __init__(self, origin, arguments):
        self.origin, self.arguments = origin, arguments


def generic(origin, *arguments):
    """``origin[arguments]``."""
    return Generic(origin, arguments)


class Union:
    """``A | B`` of types."""

    def __init__(self, members):
        self.members = members


class _AnnotatedWords:
    def __getitem__(self, words):
        return Generic("Annotated", words)


Annotated = _AnnotatedWords()


def either(one, other):
    """``one | other``: tables have it since 3.9, types since 3.10."""
    if isinstance(one, dict) and isinstance(other, dict):
        both = dict(one)
        both.update(other)
        return both
    types = (type, type(None), Generic, Union)
    if isinstance(one, types) and isinstance(other, types):
        return Union([*(one.members if isinstance(one, Union) else [one]), *(other.members if isinstance(other, Union) else [other])])
    return one | other


def either_in_place(one, other):
    """What ``one |= other`` leaves in ``one``."""
    if isinstance(one, dict):
        one.update(other)
        return one
    one |= other
    return one


def removeprefix(text, prefix):
    """``text.removeprefix(prefix)``."""
    return text[len(prefix) :] if text.startswith(prefix) else text


def removesuffix(text, suffix):
    """``text.removesuffix(suffix)``."""
    return text[: -len(suffix)] if suffix and text.endswith(suffix) else text


def isascii(text):
    """``text.isascii()``."""
    return all(ord(character) < 128 for character in text)


def zip_strict(*rows, strict=False):
    """``zip(…, strict=…)``."""
    rows = [list(row) for row in rows] if strict else rows
    if strict and len({len(row) for row in rows}) > 1:
        raise ValueError("zip() arguments are not of one length")
    return zip(*rows)


def pairwise(things):
    """itertools.pairwise."""
    things = list(things)
    return zip(things, things[1:])


def cache(function):
    """functools.cache."""
    return functools.lru_cache(maxsize=None)(function)


class StrEnum(str, Enum):
    """enum.StrEnum, for members whose values are written out."""

    # As functions: before 3.9 an Enum takes methods of str itself for inherited ones, and puts its own in their place.
    def __str__(self):
        return str.__str__(self)

    def __format__(self, specification):
        return str.__format__(str.__str__(self), specification)


MFD_CLOEXEC = getattr(os, "MFD_CLOEXEC", 0)


def memfd_create(name, flags=0):
    """os.memfd_create, else a file without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, flags)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class _NoBadGzipFile(OSError):
    """Nothing is of this kind: before 3.8 it was a plain OSError."""


BadGzipFile = getattr(gzip, "BadGzipFile", _NoBadGzipFile)


def dataclass(cls=None, **options):
    """dataclasses.dataclass, as far as the program uses it: fields in their order, with defaults, equal and hashed by value, frozen."""
    if cls is None:
        return lambda one: dataclass(one, **options)
    names = list(vars(cls).get("__annotations__", {}))
    for base in cls.__mro__[1:]:
        names = [*(name for name in getattr(base, "_fields", ()) if name not in names), *names]
    defaults = {name: getattr(cls, name) for name in names if hasattr(cls, name)}

    def __init__(self, *values, **named):
        given = dict(zip(names, values))
        given.update(named)
        if len(values) > len(names) or set(given) - set(names) or set(names) - set(given) - set(defaults):
            raise TypeError("{}() takes {}".format(cls.__name__, ", ".join(names)))
        for name in names:
            object.__setattr__(self, name, given[name] if name in given else defaults[name])

    def __setattr__(self, name, value):
        raise AttributeError("cannot assign to field {!r}".format(name))

    def values(self):
        return tuple(getattr(self, name) for name in names)

    cls._fields, cls.__init__, cls.__setattr__ = tuple(names), __init__, __setattr__
    cls.__eq__ = lambda self, other: values(self) == values(other) if type(other) is type(self) else NotImplemented
    cls.__hash__ = lambda self: hash((cls, values(self)))
    return cls


# Since 3.9.5 a part of an address has no leading zeros, since 3.9 the zone of an IPv6 address is taken: what is an address is the same everywhere.
_LEADING_ZERO = re.compile(r"(?:^|[.:])0[0-9]{1,2}(?=\.|$)")


def _ip_address(text):
    if isinstance(text, str) and "." in text and _LEADING_ZERO.search(text):
        raise ValueError("{!r} does not appear to be an IPv4 or IPv6 address".format(text))
    return _ipaddress.ip_address(text)


ipaddress = SimpleNamespace(ip_address=_ip_address)
