"""A script's QEMU commands: assignments are followed, wrappers in front are taken off, what depends on conditions is said and not guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec.structs import replace

from wizard.existing.guest import Fate, Left, Where
from wizard.existing.words.expand import Expander, Spent, Value, Variable, joined
from wizard.existing.words.lexer import Lexer, Literal, Token
from wizard.existing.words.model import Command, Text, Word
from wizard.existing.words.program import is_qemu, only_asks, start_of, unit_bytes, user_of

TROUBLES = 500  # of a source; what is beyond is counted
NESTED = 4  # scripts within scripts

_OPENING = {"if", "while", "until", "for", "case", "select"}
_CLOSING = {"fi": "if", "done": "while", "esac": "case", "}": "{"}
_PASSED = {"then", "else", "elif", "do", "!", "time", "if", "while", "until"}
_DECLARING = {"export", "declare", "local", "readonly", "typeset"}
_SEPARATORS = {"\n", ";", "&", "&&", "||", "|", "|&", ";;", ";&", ";;&", "(", ")"}
_REDIRECTIONS = {"<", ">", ">>", "<&", ">&", "<>", ">|", "&>", "&>>", "<<", "<<-", "<<<", "<(", ">("}
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?)=")


class Script:
    """One pass over a script."""

    def __init__(self, source: Text, depth: int = 0, expander: Expander | None = None, start: int = 0) -> None:
        self.source, self._depth, self._start = source, depth, start
        self.left: list[Left] = []
        self.commands: list[Command] = []
        self._uncounted = 0
        self._seen: set[tuple[int, str]] = set()
        self._expander = Expander(source, self._trouble)
        if expander is not None:
            self._expander.variables = dict(expander.variables)
        self._around: list[str] = []  # compound commands that the present place is in
        self._chained = ""  # && or || before the present command
        self._lost_after: Command | None = None  # the command that has just ended
        self._memlock: int | None = None

    def read(self) -> None:
        """Find the commands."""
        try:
            self._run(Lexer(self.source.text, self._trouble).tokens(self._start))
        except Spent:
            self._trouble(0, "", "its variables become longer than any command line is; the rest is not read", Fate.UNKNOWN)
        if self._uncounted:
            self._say(self.source.where(0, 0), "", f"there are {self._uncounted} more places like these")

    def _trouble(self, start: int, name: str, said: str, fate: Fate = Fate.UNRESOLVED) -> None:
        name = name if len(name) <= 80 else name[:79] + "…"
        if (start, said) not in self._seen:
            self._seen.add((start, said))
            self._say(self.source.where(start, start + 1), name, said, fate)

    def _say(self, where: Where, name: str, said: str, fate: Fate = Fate.UNKNOWN) -> None:
        if len(self.left) >= TROUBLES:
            self._uncounted += 1
            return
        self.left.append(Left(fate=fate, where=where, name=name, text=name, said=said))

    # -- commands -----------------------------------------------------------------------------------------------------

    def _run(self, tokens: Sequence[Token]) -> None:
        simple: list[Token] = []
        at = 0
        while at < len(tokens):
            token = tokens[at]
            at += 1
            if token.kind != "op":
                simple.append(token)
            elif token.text in _REDIRECTIONS:
                self._descriptor(simple, token)
                at += at < len(tokens) and tokens[at].kind == "word"
            elif token.text in _SEPARATORS:
                at = self._separated(tokens, at, token, simple)
                simple = []
        self._simple(simple)

    def _descriptor(self, simple: list[Token], token: Token) -> None:
        # 3<file: digits that touch the operator are no word
        last = simple[-1] if simple else None
        if last is not None and last.end == token.start and (last.plain or "x").isdigit():
            simple.pop()

    def _separated(self, tokens: Sequence[Token], at: int, token: Token, simple: list[Token]) -> int:
        first = simple[0].plain if simple else None
        if token.text == "(" and len(simple) == 1 and at < len(tokens) and tokens[at].text == ")" and tokens[at].kind == "op":
            self._around.append(f"function {first}")  # name ( ) { … }
            while at + 1 < len(tokens) and tokens[at + 1].text == "\n":
                at += 1
            return at + 1 + (at + 1 < len(tokens) and tokens[at + 1].plain == "{")
        if token.text == ")" and first == "case" and any(one.plain == "in" for one in simple):
            self._around.append("case")
            return at
        if token.text == ")" and self._around[-1:] == ["case"]:
            return at  # a pattern
        self._simple(simple)
        if token.text == "(":
            self._around.append("(")
        elif token.text == ")" and self._around[-1:] == ["("]:
            self._around.pop()
        self._chained = token.text if token.text in ("&&", "||") else self._chained if token.text in ("|", "|&") else ""
        return at

    def _simple(self, tokens: list[Token]) -> None:
        tokens = self._keywords(tokens)
        before = self._lost_after
        if not tokens:
            return
        self._lost_after = None
        count = next((at for at, token in enumerate(tokens) if token.kind != "array" and not _assignment(token)), len(tokens))
        assigned, tokens = tokens[:count], tokens[count:]
        if not tokens:
            for token in assigned:
                self._assign(token)
            return
        if tokens[0].plain in _DECLARING and not before:
            for token in tokens[1:]:
                if token.kind == "array" or _assignment(token):
                    self._assign(token)
            return
        words = [word for token in tokens if token.kind == "word" for word in self._expander.words(token)]
        if words:
            self._command(words, assigned, tokens[0].start, before)

    def _keywords(self, tokens: list[Token]) -> list[Token]:
        at = 0
        while at < len(tokens):
            word = tokens[at].plain
            following = tokens[at + 1].plain if at + 1 < len(tokens) else None
            at += 1
            if word in ("for", "select"):
                self._around.append(word)
                if following:
                    self._expander.variables[following] = Variable(doubt=f"a loop sets it in line {self.source.line(tokens[at - 1].start)}")
                return []
            if word == "case":
                self._around.append("case")
                return []
            if word == "function":
                self._around.append(f"function {following or ''}")
                at += 1
                at += at < len(tokens) and tokens[at].plain == "{"
            elif word in _OPENING:
                self._around.append("if" if word == "if" else "while")
            elif word == "{":
                self._around.append("{")
            elif word in _CLOSING:
                self._close(_CLOSING[word])
            elif word not in _PASSED:
                return tokens[at - 1 :]
        return []

    def _close(self, kind: str) -> None:
        wanted = {"while": ("while", "for", "select"), "{": ("{",)}.get(kind, (kind,))
        if self._around and (self._around[-1] in wanted or (kind == "{" and self._around[-1].startswith("function"))):
            self._around.pop()

    def _condition(self) -> str:
        """What the present place depends on, as a half sentence; empty when it is always run."""
        inner = next((kind for kind in reversed(self._around) if kind in _OPENING), None)
        article = "an" if inner == "if" else "a"
        return f"stands in {article} {inner}" if inner else f"stands behind {self._chained}" if self._chained else ""

    # -- variables ----------------------------------------------------------------------------------------------------

    def _assign(self, token: Token) -> None:
        line = self.source.line(token.start)
        if token.kind == "array":
            name, append = token.text.partition("[")[0], token.append
            found = [self._item(item) for item in token.items]
            values = tuple(value for part in found for value in part)
        else:
            first = token.parts[0]
            assert isinstance(first, Literal)
            match = _ASSIGNMENT.match(first.text)
            assert match is not None
            name, append = match[1], bool(match[2])
            rest = replace(first, text=first.text[match.end() :], start=first.start + match.end())
            parts = (rest, *token.parts[1:]) if rest.text else token.parts[1:]
            values = (self._expander.value(parts),)
        before = self._expander.variables.get(name)
        condition = self._condition()
        if condition:
            shown = " ".join(value.text for value in values)
            if append and before is not None and not before.doubt:
                # Words that may be there or not: left out, and said one by one, since they may be devices.
                self._trouble(token.start, f"{name}+={shown}", f"this {condition}; what it adds is left out")
                return
            self._expander.variables[name] = Variable(doubt=f"an assignment in line {line} {condition}")
            return
        if append and before is not None and not before.doubt:
            if token.kind == "array" or before.array:
                old = before.values if token.kind == "array" else before.values[:1]
                values = (*old, *values) if token.kind == "array" else (self._together(old, values), *before.values[1:])
            else:
                values = (self._together(before.values, values),)
        self._expander.variables[name] = Variable(values, array=token.kind == "array" or bool(before and before.array and append))

    def _together(self, old: Sequence[Value], new: Sequence[Value]) -> Value:
        return joined([*old, *new])

    def _item(self, item: Token) -> list[Value]:
        plain = item.parts[0] if item.parts else None
        if isinstance(plain, Literal) and not plain.quote and re.match(r"\[\w+\]=", plain.text):
            self._trouble(item.start, plain.text, "the items of an array are taken in the order in which they stand, not by their numbers")
            rest = plain.text.index("=") + 1
            return [self._expander.value((replace(plain, text=plain.text[rest:], start=plain.start + rest), *item.parts[1:]))]
        return self._expander.fields(item.parts)

    # -- what is run --------------------------------------------------------------------------------------------------

    def _command(self, words: list[Word], assigned: list[Token], start: int, before: Command | None) -> None:
        first = words[0].text
        if before is not None and first.startswith("-"):
            lost = " ".join(word.text for word in words)
            said = f"the command that begins in line {before.program.line} ends before this line, so the shell takes it for one of its own"
            self._trouble(start, lost, said, Fate.UNKNOWN)
            self._lost_after = before
            return
        if first == "set" and len(words) > 1 and "--" in [word.text for word in words]:
            at = [word.text for word in words].index("--")
            self._expander.positional = tuple(Value(word.text, word.runs, word.holes) for word in words[at + 1 :])
        elif first in (".", "source") and len(words) > 1:
            self._trouble(start, f"{first} {words[1].text}", "this file is not read; what it sets is not known")
        elif first == "ulimit" and len(words) > 2 and words[1].text in ("-l", "-Hl", "-Sl", "-HSl"):
            self._memlock = unit_bytes(words[2].text, 1024)
        elif first == "unset":
            for word in words[1:]:
                self._expander.variables.pop(word.text, None)
        elif first == "eval":
            self._nested(Word(text=" ".join(word.text for word in words[1:]), source=self.source.name, line=words[0].line))
        else:
            self._started(words, assigned, start)

    def _started(self, words: list[Word], assigned: list[Token], start: int) -> None:
        at = start_of(words)
        if at is None:
            script = next((word for word in words[1:] if is_script(word.text)), None) if words[0].text.rpartition("/")[2] in _NESTING else None
            if script is not None:
                self._nested(script)
            return
        if only_asks(words[at + 1 :]):
            return
        condition = self._condition()
        function = next((kind for kind in self._around if kind.startswith("function")), None)
        if condition or function:
            said = f"this command {condition or f'stands in {function}'}; it is read as if it was run"
            self._trouble(start, words[at].text, said, Fate.UNRESOLVED if condition else Fate.PLAIN)
        environment = tuple(pair for token in assigned if token.kind == "word" and (pair := self._environment(token)))
        memlock, user = self._memlock, user_of(words[:at])
        for word in words[:at]:
            if word.text.startswith("--memlock="):
                memlock = unit_bytes(word.text.partition("=")[2].partition(":")[0], 1)
        command = Command(
            program=words[at], words=tuple(words[at + 1 :]), before=tuple(words[:at]), environment=environment, user=user, memlock=memlock
        )
        self.commands.append(command)
        self._lost_after = command

    def _environment(self, token: Token) -> tuple[str, Word] | None:
        word = self._expander.value(token.parts)
        name, _, value = word.text.partition("=")
        return name, Word(text=value, source=self.source.name, line=self.source.line(token.start))

    def _nested(self, word: Word) -> None:
        if self._depth >= NESTED:
            self._say(word.where(), word.text[:80], "this script within scripts is too deep to be read")
            return
        inner = Script(Text(self.source.name, word.text, word), self._depth + 1, self._expander)
        inner.read()
        self.commands += inner.commands
        self.left += inner.left


_NESTING = {"sh", "bash", "dash", "ash", "ksh", "zsh", "su", "sudo", "screen", "tmux", "exec", "nohup", "setsid", "env", "runuser", "script", "ssh"}


def is_script(text: str) -> bool:
    """Whether a word holds a command of QEMU's, for a shell that takes it with -c."""
    return len(text) < 1 << 20 and any(is_qemu(part) for part in text.split()[:40]) and " " in text.strip()


def _assignment(token: Token) -> bool:
    first = token.parts[0] if token.kind == "word" and token.parts else None
    return isinstance(first, Literal) and not first.quote and _ASSIGNMENT.match(first.text) is not None


def read_script(source: Text) -> Script:
    """The commands of a script, and what of it was not understood."""
    script = Script(source)
    script.read()
    return script
