"""A shell script as tokens, by the rules of POSIX's "Shell Command Language" 2.2 and 2.3 and bash's for ``$'…'`` and arrays.

Nothing is expanded here. A quote that never ends does so at the end of its line, and is said.
"""

from __future__ import annotations

import re

import msgspec

from wizard.existing.guest import Fate
from wizard.existing.words.model import Trouble

DEPTH = 40  # of quotes, substitutions and arrays within each other

_PLAIN = re.compile(r"[^\s\\'\"$`|&;<>()]+")
_OPERATOR = re.compile(r"&&|\|\||;;&|;;|;&|&>>|&>|\|&|<<<|<<-|<<|<&|<>|<\(|>\(|>>|>&|>\||[\n;&|()<>]")
_ASSIGNED = re.compile(r"[A-Za-z_]\w*(?:\[[^\]\n]*\])?\+?=")
_NAME = re.compile(r"[A-Za-z_]\w*|[0-9]|[@*#?$!-]")
_IN_DOUBLE = re.compile(r'[^\\"$`]+')
_ANSI = re.compile(r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})|c(.)|(.))", re.DOTALL)
_ESCAPES = {"a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class Literal(msgspec.Struct, frozen=True):
    """Plain text. ``verbatim``: its characters are those of the source from ``start`` on."""

    text: str
    start: int
    quote: str = ""
    verbatim: bool = True


class Expansion(msgspec.Struct, frozen=True):
    """``$NAME``, ``${NAME op argument}``, or with an empty name something that is not expanded: ``$(…)``, `` `…` ``, ``$((…))``."""

    name: str
    start: int
    end: int
    quoted: bool
    op: str = ""  # ":-", "-", ":=", "=", ":+", "+", ":?", "?", or any other operator
    argument: tuple[Literal | Expansion, ...] = ()
    index: str | None = None  # of an array: "@", "*", "0"


Part = Literal | Expansion


class Token(msgspec.Struct, frozen=True):
    """A word, an operator, or an assignment of an array. ``end`` is behind the last character."""

    kind: str  # word, op, array
    start: int
    end: int
    text: str = ""  # the operator; of an array its name
    parts: tuple[Part, ...] = ()
    items: tuple[Token, ...] = ()  # of an array
    append: bool = False

    @property
    def plain(self) -> str | None:
        """The text of a word without quotes and expansions: only such a word is a keyword or an assignment's name."""
        if self.kind == "word" and all(isinstance(part, Literal) and not part.quote for part in self.parts):
            return "".join(part.text for part in self.parts if isinstance(part, Literal))
        return None


class Lexer:
    """The tokens of a text. ``trouble(start, name, said)`` is told of what is not right."""

    def __init__(self, text: str, trouble: Trouble) -> None:
        self.text, self._say = text, trouble
        self._endless: set[str] = set()  # closing marks that the rest of the text has been searched for in vain

    def _trouble(self, start: int, name: str, said: str) -> None:
        self._say(start, name, said, Fate.UNKNOWN)

    def tokens(self, at: int = 0) -> list[Token]:
        """All from ``at`` on, in order; comments, continuations and the bodies of here-documents are not among them."""
        found: list[Token] = []
        pending: list[tuple[str, bool, int]] = []
        size = len(self.text)
        while (at := self._blank(at)) < size:
            token = self._token(at, 0)
            at = token.end
            found.append(token)
            if token.kind == "op" and token.text == "\n" and pending:
                at = self._documents(at, pending)
                pending = []
            if len(found) > 1 and found[-2].kind == "op" and found[-2].text in ("<<", "<<-") and token.kind == "word":
                mark = "".join(part.text for part in token.parts if isinstance(part, Literal))
                pending.append((mark, found[-2].text == "<<-", found[-2].start))
        return found

    def _documents(self, at: int, pending: list[tuple[str, bool, int]]) -> int:
        for mark, tabs, start in pending:
            self._say(start, "<<" + mark, "here-documents are not read: what this one holds is passed over", Fate.UNRESOLVED)
            while at < len(self.text):
                end = self.text.find("\n", at)
                end = len(self.text) if end < 0 else end
                line = self.text[at:end]
                at = min(end + 1, len(self.text))
                if (line.lstrip("\t") if tabs else line) == mark:
                    break
            else:
                self._trouble(start, "<<" + mark, "this here-document never ends")
        return at

    def _blank(self, at: int) -> int:
        text, size = self.text, len(self.text)
        while at < size:
            if text[at] in " \t\r":
                at += 1
            elif text.startswith("\\\n", at) or text.startswith("\\\r\n", at):
                at = text.index("\n", at) + 1
            elif text[at] == "#":
                end = text.find("\n", at)
                at = size if end < 0 else end
            else:
                break
        return at

    def _token(self, at: int, depth: int) -> Token:
        operator = _OPERATOR.match(self.text, at)
        if operator is not None:
            return Token("op", at, operator.end(), operator[0])
        array = _ASSIGNED.match(self.text, at)
        if array is not None and self.text.startswith("(", array.end()) and depth < DEPTH:
            return self._array(array, depth)
        parts, end = self._word(at, depth)
        return Token("word", at, end, parts=parts)

    def _array(self, match: re.Match[str], depth: int) -> Token:
        items: list[Token] = []
        at = match.end() + 1
        while True:
            at = self._blank(at)
            if at >= len(self.text):
                self._trouble(match.start(), match[0] + "(", "this array never ends")
                break
            token = self._token(at, depth + 1)
            at = token.end
            if token.kind == "op" and token.text == ")":
                break
            if token.kind != "op":
                items.append(token)
            elif token.text != "\n":
                self._trouble(token.start, token.text, "no operator can stand in an array; the array is taken to end here")
                break
        name = match[0].rstrip("=").rstrip("+")
        return Token("array", match.start(), at, name, items=tuple(items), append=match[0].endswith("+="))

    # -- words --------------------------------------------------------------------------------------------------------

    def _word(self, at: int, depth: int) -> tuple[tuple[Part, ...], int]:
        text, size, start = self.text, len(self.text), at
        parts: list[Part] = []
        while at < size:
            plain = _PLAIN.match(text, at)
            if plain is not None:
                parts.append(Literal(plain[0], at))
                at = plain.end()
                continue
            character = text[at]
            if character == "\\":
                at = self._backslash(at, parts)
            elif character in "'\"$`":
                at = self._quote(at, depth, parts)
            else:
                break
        return tuple(parts), max(at, start + 1)

    def _backslash(self, at: int, parts: list[Part]) -> int:
        text = self.text
        if text.startswith("\r\n", at + 1):
            return at + 3
        if text.startswith("\n", at + 1):
            return at + 2
        if at + 1 >= len(text):
            parts.append(Literal("\\", at))
            return at + 1
        if text[at + 1] in " \t" and re.compile(r"[ \t\r]*(?:\n|\Z)").match(text, at + 1):
            self._trouble(at, "\\ ", "a space after the backslash takes away its meaning: the command ends with this line")
        parts.append(Literal(text[at + 1], at + 1, "\\"))
        return at + 2

    def _quote(self, at: int, depth: int, parts: list[Part]) -> int:
        """What begins with a quote, a dollar or a backtick; appends to ``parts``, and gives the end."""
        text = self.text
        if text[at] == "'":
            end = self._closing("'", at, at + 1)
            parts.append(Literal(text[at + 1 : end], at + 1, "'"))
            return min(end + 1, len(text)) if text.startswith("'", end) else end
        if text[at] == '"':
            return self._double(at, depth, parts)
        if text.startswith("$'", at):
            return self._ansi(at, parts)
        if text.startswith('$"', at):
            return self._double(at + 1, depth, parts)
        return self._dollar(at, depth, parts, quoted=False)

    def _closing(self, mark: str, opened: int, at: int) -> int:
        """Where a quote without escapes ends; at the end of its line when it never does."""
        end = self.text.find(mark, at) if mark not in self._endless else -1
        return end if end >= 0 else self._at_line_end(mark, opened, at)

    def _at_line_end(self, mark: str, opened: int, at: int) -> int:
        self._endless.add(mark)
        shown = self.text[opened : opened + 24].split("\n")[0]
        self._trouble(opened, shown, f"a quote that begins here never ends ({mark}); it is taken to end with its line")
        end = self.text.find("\n", at)
        end = len(self.text) if end < 0 else end
        while end > at and self.text[end - 1] in "\\ \t\r":  # the continuation of the line is not quoted
            end -= 1
        return end

    def _double(self, at: int, depth: int, parts: list[Part]) -> int:
        text, opened = self.text, at
        before = len(parts)
        at += 1
        limit = len(text) if '"' not in self._endless else self._at_line_end('"', opened, at)
        while at < limit:
            plain = _IN_DOUBLE.match(text, at, limit)
            if plain is not None:
                parts.append(Literal(plain[0], at, '"'))
                at = plain.end()
            elif text[at] == '"':
                if len(parts) == before:
                    parts.append(Literal("", at, '"'))  # "" is a word, "$@" of nothing is none
                return at + 1
            elif text[at] == "\\":
                at = self._escaped(at, parts)
            else:
                at = self._dollar(at, depth, parts, quoted=True)
        if limit < len(text) or '"' in self._endless:
            return at
        del parts[before:]
        end = self._at_line_end('"', opened, opened + 1)
        parts.append(Literal(text[opened + 1 : end], opened + 1, '"'))
        return end

    def _escaped(self, at: int, parts: list[Part]) -> int:
        following = self.text[at + 1 : at + 2]
        if following == "\n":
            return at + 2
        if self.text.startswith("\r\n", at + 1):
            return at + 3
        if following and following in '$`"\\':
            parts.append(Literal(following, at + 1, '"\\'))
            return at + 2
        parts.append(Literal("\\", at, '"'))
        return at + 1

    def _ansi(self, at: int, parts: list[Part]) -> int:
        text, opened = self.text, at
        end = at + 2
        while end < len(text) and text[end] != "'" and "$'" not in self._endless:
            end += 2 if text[end] == "\\" else 1
        if end >= len(text) or text[end] != "'":
            end = self._at_line_end("$'", opened, opened + 2)
            parts.append(Literal(text[opened + 2 : end], opened + 2, "$'"))
            return end
        raw = text[opened + 2 : end]
        # \xe2\x80\x8b are the bytes of one character
        value = _ANSI.sub(_ansi, raw).split("\0")[0].encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
        parts.append(Literal(value, opened + 2, "$'", verbatim=value == raw))
        return end + 1

    # -- expansions ---------------------------------------------------------------------------------------------------

    def _dollar(self, at: int, depth: int, parts: list[Part], *, quoted: bool) -> int:
        text = self.text
        if text[at] == "`" or text.startswith("$(", at):
            end = self._substitution(at, depth)
            parts.append(Expansion("", at, end, quoted))
            return end
        if text.startswith("${", at):
            return self._braced(at, depth, parts, quoted)
        name = _NAME.match(text, at + 1)
        if name is None:
            parts.append(Literal("$", at, '"' if quoted else ""))
            return at + 1
        parts.append(Expansion(name[0], at, name.end(), quoted))
        return name.end()

    def _substitution(self, at: int, depth: int) -> int:
        """The end of ``$(…)`` or `` `…` ``."""
        text = self.text
        if text[at] == "`":
            end = at + 1
            while end < len(text) and text[end] != "`" and "`" not in self._endless:
                end += 2 if text[end] == "\\" else 1
            return end + 1 if end < len(text) and text[end] == "`" else self._at_line_end("`", at, at + 1)
        closed = self._balanced(at + 2, ")", depth + 1) if ")" not in self._endless else None
        return closed if closed is not None else self._at_line_end(")", at, at + 2)

    _inner = re.compile(r"[^\\'\"$`(){}]+")

    def _balanced(self, at: int, close: str, depth: int) -> int | None:
        """Behind the bracket that closes; quotes within hide brackets. None when it never closes."""
        text, level = self.text, 0
        opening = {")": "(", "}": "{"}[close]
        while at < len(text):
            inner = self._inner.match(text, at)
            if inner is not None:
                at = inner.end()
                continue
            character = text[at]
            if character == close and level == 0:
                return at + 1
            level += (character == opening) - (character == close)
            if character == "\\":
                at += 2
            elif character in "'\"$`" and depth < DEPTH and not (character == "'" and "'" in self._endless):
                at = self._quote(at, depth, [])
            else:
                at += 1
        return None

    def _braced(self, at: int, depth: int, parts: list[Part], quoted: bool) -> int:
        text = self.text
        end = self._balanced(at + 2, "}", depth + 1) if "}" not in self._endless else None
        if end is None:
            end = self._at_line_end("}", at, at + 2)
            parts.append(Expansion("", at, end, quoted))
            return end
        match = _EXPRESSION.match(text, at + 2, end - 1)
        if match is None:
            parts.append(Expansion("", at, end, quoted))
            return end
        argument: list[Part] = []
        if depth < DEPTH:
            self._argument(match.end(), end - 1, depth + 1, argument, quoted)
        parts.append(Expansion(match["name"], at, end, quoted, match["op"], tuple(argument), match["index"]))
        return end

    def _argument(self, at: int, limit: int, depth: int, parts: list[Part], quoted: bool) -> None:
        """The word behind an operator: spaces belong to it."""
        while at < limit:
            character = self.text[at]
            if character == "\\":
                at = self._escaped(at, parts) if quoted else self._backslash(at, parts)
            elif character in '"$`' or (character == "'" and not quoted):
                at = self._quote(at, depth, parts)
            else:
                plain = re.compile(r"[^\\'\"$`]+|'").match(self.text, at, limit)
                assert plain is not None  # every other character was dealt with above
                parts.append(Literal(plain[0], at, '"' if quoted else ""))
                at = plain.end()


_EXPRESSION = re.compile(r"(?P<name>[A-Za-z_]\w*|[0-9]+|[@*#?$!-])(?:\[(?P<index>[^\]]*)\])?(?P<op>:-|:=|:\+|:\?|-|=|\+|\?|[%#/:^,@].*|)", re.DOTALL)


def _ansi(match: re.Match[str]) -> str:
    octal, byte, short, long, control, other = match.groups()
    if octal or byte:
        value = int(octal, 8) & 0xFF if octal else int(byte, 16)
        return chr(value if value < 0x80 else 0xDC00 + value)
    if short or long:
        number = int(short or long, 16)
        return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else match[0]
    if control:
        return chr(ord(control) & 0x1F)
    if other in _ESCAPES:
        return _ESCAPES[other]
    return str(other) if other in "\\'\"?" else match[0]
