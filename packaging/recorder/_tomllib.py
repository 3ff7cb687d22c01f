"""The part of TOML that a policy is written in, for a Python without tomllib: tables, lists of tables, strings, truth values, whole numbers.

Anything else is refused, never passed over: a rule that is silently ignored would give away what somebody meant to keep.
"""

import re


class TOMLDecodeError(ValueError):
    """What is wrong, and in which line."""


_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}
_KEY = r'(?:[A-Za-z0-9_-]+|"[^"\\\n]*"|\'[^\'\n]*\')'
_STRING = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[btnfr"\\]|\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8})*"|\'[^\'\x00-\x08\x0a-\x1f\x7f]*\''
_VALUE = r"(?P<text>" + _STRING + r")|(?P<truth>true|false)|(?P<number>[+-]?(?:0|[1-9](?:_?[0-9])*))"
_END = r"[ \t]*(?:#[^\x00-\x08\x0a-\x1f\x7f]*)?$"
_PAIR = re.compile(r"[ \t]*(?P<key>" + _KEY + r")[ \t]*=[ \t]*(?:" + _VALUE + r")" + _END)
_TABLE = re.compile(r"[ \t]*(?P<open>\[\[?)[ \t]*(?P<key>" + _KEY + r")[ \t]*(?P<close>\]\]?)" + _END)
_NOTHING = re.compile(_END)


def loads(text):
    """The tables of a text; ``TOMLDecodeError``."""
    document = {}
    here, listed, opened = document, set(), set()
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if _NOTHING.match(line):
            continue
        table, pair = _TABLE.match(line), _PAIR.match(line)
        if table and len(table.group("open")) == len(table.group("close")):
            key = _unquoted(table.group("key"))
            if len(table.group("open")) == 2:
                if key in document and key not in listed:
                    raise _wrong("{} is something else already".format(key), number)
                listed.add(key)
                here = {}
                document.setdefault(key, []).append(here)
            else:
                if key in document:
                    raise _wrong("{} is there already".format(key), number)
                opened.add(key)
                here = document[key] = {}
        elif pair:
            key = _unquoted(pair.group("key"))
            if key in here:
                raise _wrong("Cannot overwrite a value", number)
            here[key] = _value(pair, number)
        else:
            raise _wrong("more of TOML than this recorder reads without Python 3.11", number)
    return document


def _value(pair, number):
    if pair.group("truth"):
        return pair.group("truth") == "true"
    if pair.group("number"):
        return int(pair.group("number").replace("_", ""))
    return _unquoted(pair.group("text"), number)


def _unquoted(text, number=0):
    if text[:1] == "'":
        return text[1:-1]
    if text[:1] != '"':
        return text

    def meant(found):
        if found.group(1):
            code = int(found.group(1)[1:], 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise _wrong("Escaped character is not a Unicode scalar value", number)
            return chr(code)
        return _ESCAPES[found.group(2)]

    return re.sub(r"\\(?:(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8})|(.))", meant, text[1:-1])


def _wrong(what, number):
    return TOMLDecodeError("{} (at line {})".format(what, number))
