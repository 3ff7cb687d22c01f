"""What the program uses of msgspec, in Python 3.6: structs, JSON of the same bytes, and a decoder that says what is wrong in the same words.

Held against msgspec itself in tests/packaging/test_recorder.py.
"""

import json as _json
import pickle
import re
import sys
from types import SimpleNamespace

import _older


class MsgspecError(Exception):
    """Base of the errors."""


class DecodeError(MsgspecError, ValueError):
    """No JSON."""


class ValidationError(DecodeError):
    """JSON that is not of the type that was asked for."""


class UnsetType:
    """The type of UNSET."""

    def __bool__(self):
        return False


UNSET = UnsetType()


class Raw(bytes):
    """JSON that is kept as it stands."""


class Meta:
    """Bounds of a value."""

    def __init__(self, *, pattern=None, ge=None, le=None, min_length=None, max_length=None):
        self.pattern, self.ge, self.le, self.min_length, self.max_length = pattern, ge, le, min_length, max_length


class _Field:
    def __init__(self, default, default_factory, name):
        self.default, self.default_factory, self.name = default, default_factory, name


_NO_DEFAULT = object()


def field(*, default=_NO_DEFAULT, default_factory=_NO_DEFAULT, name=None):
    """A field with a factory, or with another name in JSON."""
    return _Field(default, default_factory, name)


_OPTIONS = ("frozen", "kw_only", "omit_defaults", "order", "eq")


class _StructType(type):
    def __new__(mcs, name, bases, space, **options):
        known = {}
        for base in reversed(bases):
            known.update(getattr(base, "_options", {}))
        known.update((key, value) for key, value in options.items() if key in _OPTIONS)
        own = {}
        for key, kind in space.get("__annotations__", {}).items():
            if "ClassVar" in str(kind):
                continue
            own[key] = space.pop(key, _NO_DEFAULT)
        cls = super().__new__(mcs, name, bases, space)
        cls._options = known
        names, defaults, encoded, homes, keywords = [], {}, {}, {}, set()
        for base in cls.__mro__[:0:-1]:
            for key in vars(base).get("_own", ()):
                if key in names:
                    names.remove(key)
                names.append(key)
                encoded[key] = base._encoded[key]
                homes[key] = base
                defaults.pop(key, None)
                if key in base._defaults:
                    defaults[key] = base._defaults[key]
                if base._options.get("kw_only"):
                    keywords.add(key)
        for key, default in own.items():
            if key in names:
                names.remove(key)
            names.append(key)
            made = default if isinstance(default, _Field) else _Field(default, _NO_DEFAULT, None)
            encoded[key], homes[key] = made.name or key, cls
            defaults.pop(key, None)
            if made.default is not _NO_DEFAULT or made.default_factory is not _NO_DEFAULT:
                defaults[key] = made
            if known.get("kw_only"):
                keywords.add(key)
        # Those by keyword stand behind the others, in the order of their declaration (msgspec, "Field Ordering").
        names = [key for key in names if key not in keywords] + [key for key in names if key in keywords]
        cls._own, cls._encoded, cls._homes, cls._keywords = tuple(own), encoded, homes, keywords
        cls._defaults = defaults
        cls.__struct_fields__ = tuple(names)
        cls._positional = tuple(key for key in names if key not in keywords)
        return cls

    def __init__(cls, name, bases, space, **options):
        super().__init__(name, bases, space)


def _default(made):
    if made.default_factory is not _NO_DEFAULT:
        return made.default_factory()
    value = made.default
    return type(value)() if type(value) in (list, dict, set) else value


class Struct(metaclass=_StructType):
    """Named fields with defaults; equal and, where frozen, hashed by value."""

    def __init__(self, *values, **named):
        cls = type(self)
        if len(values) > len(cls._positional):
            raise TypeError("Extra positional arguments provided")
        space = self.__dict__
        given = dict(zip(cls._positional, values))
        for name in named:
            if name in given:
                raise TypeError("Argument {!r} given by name and position".format(name))
            if name not in cls._encoded:
                raise TypeError("Unexpected keyword argument {!r}".format(name))
        given.update(named)
        for name in cls.__struct_fields__:
            if name in given:
                space[name] = given[name]
            elif name in cls._defaults:
                space[name] = _default(cls._defaults[name])
            else:
                raise TypeError("Missing required argument {!r}".format(name))
        after = getattr(self, "__post_init__", None)
        if after is not None:
            after()

    def __setattr__(self, name, value):
        if type(self)._options.get("frozen"):
            raise AttributeError("immutable type: {!r}".format(type(self).__name__))
        if name not in type(self)._encoded:
            raise AttributeError("{!r} object has no attribute {!r}".format(type(self).__name__, name))
        self.__dict__[name] = value

    def __delattr__(self, name):
        raise AttributeError("immutable type: {!r}".format(type(self).__name__))

    def __eq__(self, other):
        return self.__dict__ == other.__dict__ if type(other) is type(self) else NotImplemented

    def __hash__(self):
        if not type(self)._options.get("frozen"):
            raise TypeError("unhashable type: {!r}".format(type(self).__name__))
        return hash((type(self), tuple(self.__dict__[name] for name in type(self).__struct_fields__)))

    def __lt__(self, other):
        return self._ordered(other, lambda one, another: one < another)

    def _ordered(self, other, compared):
        if type(other) is not type(self) or not type(self)._options.get("order"):
            return NotImplemented
        names = type(self).__struct_fields__
        return compared(tuple(self.__dict__[name] for name in names), tuple(other.__dict__[name] for name in names))

    def __repr__(self):
        shown = ", ".join("{}={!r}".format(name, self.__dict__[name]) for name in type(self).__struct_fields__)
        return "{}({})".format(type(self).__name__, shown)


def _replace(struct, **changes):
    cls = type(struct)
    unknown = [name for name in changes if name not in cls._encoded]
    if unknown:
        raise TypeError("`{}` has no field {!r}".format(cls.__name__, unknown[0]))
    made = object.__new__(cls)
    made.__dict__.update(struct.__dict__)
    made.__dict__.update(changes)
    return made


def _asdict(struct):
    return {name: struct.__dict__[name] for name in type(struct).__struct_fields__}


structs = SimpleNamespace(replace=_replace, asdict=_asdict)


def _plain(value, ordered):
    """Tables, lists and what JSON has itself."""
    if value is None or isinstance(value, (str, bool, float)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 64:
            raise OverflowError("can't serialize ints >= 2**64 or < -(2**63)")
        return int(value)
    if isinstance(value, Struct):
        cls, found = type(value), {}
        omit = cls._options.get("omit_defaults")
        for name in cls.__struct_fields__:
            one = value.__dict__[name]
            if one is UNSET or (omit and name in cls._defaults and _is_default(one, cls._defaults[name])):
                continue
            found[cls._encoded[name]] = _plain(one, ordered)
        return found
    if isinstance(value, dict):
        items = [(key if isinstance(key, str) else str(_plain(key, ordered)), one) for key, one in value.items()]
        return {str(key): _plain(one, ordered) for key, one in (sorted(items, key=lambda item: item[0].encode()) if ordered else items)}
    if isinstance(value, (list, tuple)):
        return [_plain(one, ordered) for one in value]
    if isinstance(value, (set, frozenset)):
        return [_plain(one, ordered) for one in (sorted(value) if ordered else value)]
    raise TypeError("Encoding objects of type {} is unsupported".format(type(value).__name__))


def _is_default(value, made):
    # is_default() of msgspec's _core.c: the very same object, or an empty table, list or set where that is made anew each time. What CPython
    # has one object of (small numbers, texts of one character, empty ones) is the same object where it is equal.
    if made.default_factory is not _NO_DEFAULT:
        return type(value) is made.default_factory and not value
    default = made.default
    if value is default:
        return True
    if type(value) is not type(default):
        return False
    if isinstance(default, (list, dict, set, tuple)):
        return not value and not default
    if isinstance(default, int):
        return value == default and -5 <= value <= 256
    return isinstance(default, (str, bytes)) and len(value) < 2 and value == default


def _encode(value, *, order=None):
    text = _json.dumps(_plain(value, order is not None), ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8")


def _format(data, *, indent=2):
    text = data.decode("utf-8") if isinstance(data, bytes) else data
    made = _json.dumps(_json.loads(text), ensure_ascii=False, indent=indent)
    return made.encode("utf-8") if isinstance(data, bytes) else made


def _decode(data, *, type=None):
    text = data.decode("utf-8") if isinstance(data, bytes) else data
    if not text.strip(" \t\r\n"):
        raise DecodeError("Input data was truncated")
    try:
        value = _json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise
    except ValueError as error:
        if type is not None:  # msgspec looks at the type of what begins before it knows how that ends
            _root(text.lstrip(" \t\r\n")[0], type)
        raise DecodeError(_malformed(text, error)) from error
    return value if type is None else _convert(value, type, _Place(), {})


_BEGINS = {"[": ("array", (list, tuple)), "{": ("object", (dict, Struct)), '"': ("str", (str,))}


def _root(first, wanted):
    """``ValidationError`` where what begins so is not of the type."""
    if first not in _BEGINS:
        return
    word, fitting = _BEGINS[first]
    kinds = [kind.origin if isinstance(kind, _older.Generic) else kind for kind in _kinds(wanted, {})[0]]
    if all(isinstance(kind, type) and kind is not object and not issubclass(kind, fitting) for kind in kinds):
        raise _Place().wrong("Expected `{}`, got `{}`".format(" | ".join(_name(kind) for kind in kinds), word))


def _no_constant(word):
    raise ValueError(word)


def _malformed(text, error):
    at = getattr(error, "pos", None)
    if at is None:
        return "JSON is malformed: invalid character"
    if at >= len(text.rstrip(" \t\r\n")) or "Unterminated string" in str(error):
        return "Input data was truncated"
    byte = len(text[:at].encode("utf-8", "surrogatepass"))
    what = str(getattr(error, "msg", ""))
    if what == "Extra data":
        return "JSON is malformed: trailing characters (byte {})".format(byte + 1)
    if what.startswith("Expecting ',' delimiter"):
        return "JSON is malformed: expected ',' or '{}' (byte {})".format(_closing(text, at), byte)
    if what.startswith("Expecting ':' delimiter"):
        return "JSON is malformed: expected ':' (byte {})".format(byte)
    if what.startswith("Expecting property name"):
        return "JSON is malformed: object keys must be strings (byte {})".format(byte)
    return "JSON is malformed: invalid character (byte {})".format(byte)


def _closing(text, at):
    open_, string, escaped = [], False, False
    for character in text[:at]:
        if string:
            string = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            string = True
        elif character in "[{":
            open_.append("]" if character == "[" else "}")
        elif character in "]}" and open_:
            open_.pop()
    return open_[-1] if open_ else "}"


class _Place:
    """Where in the JSON: ``$[0].bdf``; keys of tables are ``[...]``."""

    def __init__(self, path="$"):
        self.path = path

    def item(self, number):
        return _Place("{}[{}]".format(self.path, number))

    def any(self):
        return _Place(self.path + "[...]")

    def named(self, name):
        return _Place("{}.{}".format(self.path, name))

    def wrong(self, what):
        return ValidationError(what if self.path == "$" else "{} - at `{}`".format(what, self.path))


_WORDS = ((bool, "bool"), (str, "str"), (int, "int"), (float, "float"), (list, "array"), (dict, "object"), (type(None), "null"))


def _word_of(value):
    return next(word for kind, word in _WORDS if isinstance(value, kind))


def _kinds(wanted, space):
    """(the kinds that a type allows, bounds)."""
    wanted = eval(wanted, space) if isinstance(wanted, str) else wanted
    if isinstance(wanted, _older.Union):
        kinds, bounds = [], []
        for member in wanted.members:
            more, bound = _kinds(member, space)
            kinds += more
            bounds += bound
        return kinds, bounds
    if isinstance(wanted, _older.Generic) and wanted.origin == "Annotated":
        kinds, bounds = _kinds(wanted.arguments[0], space)
        return kinds, [*bounds, *wanted.arguments[1:]]
    return [type(None) if wanted is None else wanted], []


_NAMES = {str: "str", int: "int", bool: "bool", float: "float", type(None): "null"}


def _name(kind):
    if kind in _NAMES:
        return _NAMES[kind]
    origin = kind.origin if isinstance(kind, _older.Generic) else kind
    return "array" if origin in (list, tuple, set, frozenset) else "object"


_ORDER = ("int", "float", "bool", "str", "array", "object", "null")


def _convert(value, wanted, place, space):
    kinds, bounds = _kinds(wanted, space)
    if any(kind is object or getattr(kind, "__name__", getattr(kind, "_name", "")) == "Any" for kind in kinds):
        return value
    for kind in kinds:
        if kind is Raw:
            return Raw(_encode(value))
        if kind is UnsetType:
            continue
        origin = kind.origin if isinstance(kind, _older.Generic) else kind
        if origin in (list, tuple) and isinstance(value, list):
            return _array(value, kind, origin, place, space)
        if origin is dict and isinstance(value, dict):
            keys, values = kind.arguments if isinstance(kind, _older.Generic) else (object, object)
            return {_convert(key, keys, place.any(), space): _convert(one, values, place.any(), space) for key, one in value.items()}
        if isinstance(origin, type) and issubclass(origin, Struct) and isinstance(value, dict):
            return _struct(value, origin, place)
        if kind is float and type(value) is int:
            return float(value)
        if isinstance(kind, type) and type(value) is kind:
            _bounded(value, bounds, place)
            return value
    names = {_name(kind) for kind in kinds if kind is not UnsetType}
    expected = " | ".join(name for name in _ORDER if name in names)
    raise place.wrong("Expected `{}`, got `{}`".format(expected, _word_of(value)))


def _array(value, kind, origin, place, space):
    arguments = kind.arguments if isinstance(kind, _older.Generic) else (object, Ellipsis)
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        if len(value) != len(arguments):
            raise place.wrong("Expected `array` of length {}, got {}".format(len(arguments), len(value)))
        return tuple(_convert(one, each, place.item(at), space) for at, (one, each) in enumerate(zip(value, arguments)))
    return origin(_convert(one, arguments[0], place.item(at), space) for at, one in enumerate(value))


def _struct(value, cls, place):
    names = {cls._encoded[name]: name for name in cls.__struct_fields__}
    given = {}
    for key, one in value.items():
        if key in names:
            name = names[key]
            home = cls._homes[name]
            space = dict(vars(sys.modules[home.__module__]), _older=_older)
            given[name] = _convert(one, home.__annotations__[name], place.named(key), space)
    for key, name in names.items():
        if name not in given and name not in cls._defaults:
            raise place.wrong("Object missing required field `{}`".format(key))
    return cls(**given)


def _bounded(value, bounds, place):
    kind = _word_of(value)
    for meta in bounds:
        if isinstance(value, str):
            if meta.max_length is not None and len(value) > meta.max_length:
                raise place.wrong("Expected `str` of length <= {}".format(meta.max_length))
            if meta.min_length is not None and len(value) < meta.min_length:
                raise place.wrong("Expected `str` of length >= {}".format(meta.min_length))
            if meta.pattern is not None and re.search(meta.pattern, value) is None:
                raise place.wrong("Expected `str` matching regex {!r}".format(meta.pattern))
        elif isinstance(value, int) and not isinstance(value, bool):
            if meta.ge is not None and value < meta.ge:
                raise place.wrong("Expected `{}` >= {}".format(kind, meta.ge))
            if meta.le is not None and value > meta.le:
                raise place.wrong("Expected `{}` <= {}".format(kind, meta.le))


json = SimpleNamespace(encode=_encode, decode=_decode, format=_format)
# Only between this process and its own children (wizard.base.shares): what they know of each other is enough.
msgpack = SimpleNamespace(encode=pickle.dumps, decode=lambda data, type=None: pickle.loads(data))
