"""Tokens of a shell -> words: variables with plain values are put in, fields are split, everything else is a hole with its expression.

What bash does is the measure (tests hold the words against its own ``printf '%s\\0'``); what it would do with files (patterns, ``~``) or with
processes is not done.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from wizard.existing.guest import Fate
from wizard.existing.words.lexer import Expansion, Literal, Part, Token
from wizard.existing.words.model import Hole, Run, Text, Trouble, Word

BUDGET = 8 << 20  # characters that variables may become, and 64 for each word: a variable that doubles itself forty times ends here
_SPACE = re.compile(r"[ \t\n]+")
_BRACES = re.compile(r"\{[^{}\s]*,[^{}]*\}|\{[0-9A-Za-z]+\.\.[0-9A-Za-z]+")
PATTERN = re.compile(r"[*?]")


class Value(msgspec.Struct, frozen=True):
    """Text with the places of its characters, and what could not be known of it."""

    text: str = ""
    runs: tuple[Run, ...] = ()
    holes: tuple[Hole, ...] = ()

    def part(self, start: int, end: int) -> Value:
        """A piece of it."""
        if start == 0 and end == len(self.text):
            return self
        runs = tuple(
            Run(max(run.start, start) - start, min(run.end, end) - start, run.source + max(0, start - run.start), run.text, run.quote)
            for run in self.runs
            if run.start < end and start < run.end
        )
        holes = tuple(
            msgspec.structs.replace(hole, start=max(hole.start, start) - start, end=min(hole.end, end) - start)
            for hole in self.holes
            if hole.start < end and start < hole.end
        )
        return Value(self.text[start:end], runs, holes)


def joined(values: Sequence[Value]) -> Value:
    """Several behind each other."""
    if len(values) == 1:
        return values[0]
    runs: list[Run] = []
    holes: list[Hole] = []
    at = 0
    for value in values:
        runs += [Run(run.start + at, run.end + at, run.source, run.text, run.quote) for run in value.runs]
        holes += [msgspec.structs.replace(hole, start=hole.start + at, end=hole.end + at) for hole in value.holes]
        at += len(value.text)
    return Value("".join(value.text for value in values), tuple(runs), tuple(holes))


class Variable(msgspec.Struct, frozen=True):
    """What a variable holds; ``doubt`` says why that is not certain, and then it is a hole."""

    values: tuple[Value, ...] = ()
    array: bool = False
    doubt: str = ""


class Spent(Exception):
    """The variables of a source become longer than any command line is."""


class Expander:
    """The variables of a script, and what words become with them."""

    def __init__(self, source: Text, trouble: Trouble) -> None:
        self.source, self._say = source, trouble
        self.variables: dict[str, Variable] = {}
        self.positional: tuple[Value, ...] | None = None  # of ``set --``; None: whoever calls the script gives them
        self._budget = BUDGET

    def _doubt(self, start: int, name: str, said: str) -> None:
        self._say(start, name, said, Fate.UNRESOLVED)

    def words(self, token: Token) -> list[Word]:
        """The words that a token becomes: none, one, or of an unquoted variable several."""
        start = token.start
        line = self.source.line(start)
        return [Word(text=v.text, source=self.source.name, line=line, runs=v.runs, holes=v.holes) for v in self.fields(token.parts)]

    def value(self, parts: Sequence[Part]) -> Value:
        """What an assignment takes: no fields are split, and the items of an array are joined."""
        pieces: list[Value] = []
        for place, part in enumerate(parts):
            if isinstance(part, Literal):
                home = self._home(part) if place == 0 else None
                pieces.append(home or self._literal(part))
            else:
                pieces.append(self._spaced(self._expanded(part)))
        return self._spend(joined(pieces)) if pieces else Value()

    def fields(self, parts: Sequence[Part]) -> list[Value]:
        """The fields of a word, as bash splits them with the usual IFS."""
        fields: list[list[Value]] = []
        open_ = False  # whether the last field goes on
        self._braces(parts)
        for place, part in enumerate(parts):
            if isinstance(part, Literal):
                piece = (self._home(part) if place == 0 else None) or self._literal(part)
                open_ = self._join(fields, [piece], open_)
            elif part.quoted:
                many = part.index == "@" or part.name == "@"
                found = self._expanded(part)
                if many and not found:
                    continue  # "$@" of nothing is no word at all
                if not many:
                    found = [self._spaced(found)]
                open_ = self._join(fields, found, open_)
            else:
                for number, one in enumerate(self._expanded(part)):
                    open_ = self._split(fields, one, open_ and number == 0)
        return [self._spend(joined(pieces)) for pieces in fields]

    def _join(self, fields: list[list[Value]], found: Sequence[Value], open_: bool) -> bool:
        for number, value in enumerate(found):
            if open_ and number == 0:
                fields[-1].append(value)
            else:
                fields.append([value])
        return open_ or bool(found)

    def _split(self, fields: list[list[Value]], value: Value, open_: bool) -> bool:
        """An unquoted value: space within it ends a field. A hole is one piece, whatever its expression has in it."""
        at = 0
        holes = value.holes
        for space in _SPACE.finditer(value.text):
            if any(hole.start < space.end() and space.start() < hole.end for hole in holes):
                continue
            if space.start() > at:
                self._join(fields, [value.part(at, space.start())], open_)
            open_ = False
            at = space.end()
        if at < len(value.text):
            self._join(fields, [value.part(at, len(value.text))], open_)
            return True
        return open_ and at == 0

    def _spend(self, value: Value) -> Value:
        self._budget -= len(value.text) + 64
        if self._budget < 0:
            raise Spent
        return value

    # -- parts --------------------------------------------------------------------------------------------------------

    def _literal(self, part: Literal) -> Value:
        size = len(part.text)
        run = (Run(0, size, part.start, self.source, part.quote),) if part.verbatim and size else ()
        return Value(part.text, run)

    def _home(self, part: Literal) -> Value | None:
        if part.quote or not part.text.startswith("~") or (len(part.text) > 1 and not part.text.startswith("~/")):
            return None
        literal = self._literal(part)
        where = self.source.where(part.start, part.start + 1, "~")
        return Value(literal.text, literal.runs, (Hole(0, 1, "~", where, "it is the home of whoever runs the script"),))

    def _spaced(self, values: Sequence[Value]) -> Value:
        return joined([piece for number, one in enumerate(values) for piece in ((Value(" "), one) if number else (one,))] or [Value()])

    def _hole(self, part: Expansion, because: str) -> Value:
        expression = self.source.text[part.start : part.end]
        where = self.source.where(part.start, part.end, expression)
        return Value(expression, (), (Hole(0, len(expression), expression, where, because, not part.quoted),))

    def _expanded(self, part: Expansion) -> list[Value]:
        """The values of an expansion: of an array several, of a list without items none."""
        if not part.name:
            return [self._hole(part, "nothing of a script is run")]
        if part.name in "@*":
            return list(self.positional or ())
        variable = self._variable(part.name)
        if variable is not None and variable.doubt:
            return [self._hole(part, variable.doubt)]
        values = self._indexed(variable, part.index)
        empty = not values or (len(values) == 1 and not values[0].text)
        if part.op.startswith(":") and part.op[1:] in ("-", "=", "+", "?") and any(value.holes for value in values):
            return [self._hole(part, "whether it is empty is not known")]
        match part.op:
            case "" if variable is None and part.index in ("@", "*"):
                self._doubt(part.start, part.name, "no array of this name is set here; it is taken to have no items")
                return []
            case "":
                return values if values or variable is not None else [self._hole(part, _unset(part.name))]
            case ":-" | "-" | ":=" | "=" if variable is None:
                value = self.value(part.argument)
                expression = self.source.text[part.start : part.end]
                self._doubt(part.start, expression, f"{part.name} is not set here, so what stands behind {part.op} is taken")
                if part.op in (":=", "="):
                    self.variables[part.name] = Variable((value,))
                return [value]
            case ":-" | ":=":
                value = self.value(part.argument) if empty else Value()
                if empty and part.op == ":=":
                    self.variables[part.name] = Variable((value,))
                return [value] if empty else values
            case "-" | "=" | "?" if variable is not None:
                return values
            case ":?" if not empty:
                return values
            case "+" | ":+":
                return [] if variable is None or (empty and part.op == ":+") else [self.value(part.argument)]
            case ":?" | "?":
                return [self._hole(part, _unset(part.name))]
            case _:
                return [self._hole(part, "this way to cut or change a value is not understood")]

    def _variable(self, name: str) -> Variable | None:
        if name.isdigit() and self.positional is not None:
            number = int(name)
            return Variable((self.positional[number - 1],)) if 0 < number <= len(self.positional) else None
        return self.variables.get(name)

    def _indexed(self, variable: Variable | None, index: str | None) -> list[Value]:
        if variable is None:
            return []
        if index in ("@", "*"):
            return list(variable.values)
        number = int(index) if index and index.isdigit() and len(index) < 9 else 0
        return [variable.values[number]] if number < len(variable.values) else [Value()] if variable.values else []

    def _braces(self, parts: Sequence[Part]) -> None:
        text = "".join(part.text if isinstance(part, Literal) and not part.quote else "\0" for part in parts)
        if "{" in text and (found := _BRACES.search(text)):
            start = parts[0].start
            said = "bash makes several words of unquoted braces; they are taken as they stand: quote them"
            self._say(start, found[0].replace("\0", "…"), said, Fate.UNKNOWN)
        elif PATTERN.search(text):
            said = "the shell may put names of files in the place of an unquoted * or ?; it is taken as it stands"
            self._doubt(parts[0].start, text.replace("\0", "…"), said)


def _unset(name: str) -> str:
    if name.isdigit():
        return "it is given to the script by whoever starts it"
    return "it is not set here"
