"""Every command that the program or its documentation tells somebody to type is one that the program takes.

Commands in ``console`` blocks are run (tests/test_documentation.py), and so are those that screens of the wizard offer for themselves
(tests/tui/test_commands.py). Here are the others: in the sentences of findings, errors and help, in the generated files, and in the prose
of the documentation.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.cache import PROJECT
from wizard.cli.parser import build, parse

# What stands for what somebody fills in; several of one kind, and what may be left out.
PLACES = {
    "FUNCTION": "0000:14:00.0", "SMMU": "smmu3.0x000000000c000000", "PROFILE": "web.toml", "SNAPSHOT": "host.json", "OTHERHOST": "other.json",
    "FILE": "file", "DIR": "out", "VERSION": "11.1", "NAME": "profile", "FORMAT": "nfd", "PATH": "/usr/bin/qemu-system-aarch64", "TREE": "tree",
}  # fmt: skip
IN_CODE = re.compile(r"(?:sudo )?smmu-wizard(?= |$)[^\n]*")
NEEDED = {"plan": "--vm web=0000:14:00.0", "export": "web.toml"}  # what "…" leaves out of a command that is about something else
NO_COMMANDS = {"smmu-wizard host", "smmu-wizard machine"}  # what pseudonyms are made of
BARE = {word for action in build()._actions if action.choices for word in action.choices}


def sentences() -> Iterator[tuple[str, str]]:
    """File and text of every string of the program but docstrings; values that are filled in stand as PLACES do."""
    for path in sorted((PROJECT / "wizard").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        skipped = {
            id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
        }
        parts: set[int] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts |= {id(value) for value in node.values}
                yield path.name, "".join(str(value.value) if isinstance(value, ast.Constant) else filled(value) for value in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped | parts:
                yield path.name, re.sub(r"\{(\w+)\}", lambda found: word_for(found[1]), node.value)


def filled(value: ast.expr) -> str:
    return word_for(ast.unparse(value.value) if isinstance(value, ast.FormattedValue) else "")


def word_for(name: str) -> str:
    """What a sentence has in the place of a value."""
    last = name.rpartition(".")[2]
    known = {"command": "list", "format": "nfd", "_snapshot": "host.json", "path": "file"}
    return known.get(last, PLACES["FUNCTION"])


def prose(page: Path) -> str:
    """A page without the blocks that are run or parsed elsewhere."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def commands() -> list[tuple[str, str]]:
    """Where it stands, and the command, each once."""
    found: dict[str, str] = {}
    texts = list(sentences())
    texts += [
        (page.name, prose(page))
        for page in [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").rglob("*.md"))]
        if page.name != "commands.md"
    ]  # which is the parser's own
    # With everything filled in, as somebody reads them.
    texts += [(page.name, page.read_text(encoding="utf-8")) for page in sorted((PROJECT / "tests").glob("*/golden/*.txt"))]
    for where, text in texts:
        for code in re.findall(r"`([^`\n]*)`", text):
            if IN_CODE.fullmatch(code) and code not in NO_COMMANDS:
                found.setdefault(code, where)
        if where.endswith(".md"):  # an indented line of a page is a command to type
            for line in re.findall(r"^ {4}((?:sudo )?smmu-wizard(?: .*)?)$", text, flags=re.M):
                found.setdefault(re.split(r"\s{2,}|\s#", line)[0].strip(), where)
    return sorted((where, command) for command, where in found.items())


def words_of(command: str) -> list[str]:
    """A command as somebody types it: places filled in, what may be left out left out, redirections and sudo away."""
    text = re.split(r" > | && ", command)[0]
    text = re.sub(r"\[[^\]]*\]", "", text.removeprefix("sudo ").removeprefix("smmu-wizard"))
    text = re.sub(r"\b([A-Z]{2,})…?", lambda found: PLACES.get(found[1], found[0]), text)
    text = re.sub(r"^ *([a-z-]*) … ", lambda found: f"{found[1]} {NEEDED.get(found[1], '')} ", text)
    return shlex.split(re.sub(r"\{(\w+)\}", lambda found: word_for(found[1]), text))


def test_there_are_commands() -> None:
    assert len(commands()) > 40
    assert {where for where, _ in commands()} >= {"README.md", "findings.md", "todo.py", "hostrules.py"}


@pytest.mark.parametrize(("where", "command"), commands(), ids=lambda value: value)
def test_it_is_taken(where: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command alone may be spoken of (`smmu-wizard plan` writes profiles); one with more words has to be taken as it stands."""
    words = words_of(command)
    if len(words) == 1 and words[0] in BARE - MUST_BE_WHOLE:
        return
    try:
        parse(words)
    except SystemExit as stop:
        if stop.code:  # --help ends too, with 0
            pytest.fail(f"{where}: `{command}`: {capsys.readouterr().err}", pytrace=False)


MUST_BE_WHOLE = {"prepare", "record", "doctor", "list"}
"""What a fix tells somebody to type next: alone, it would only show how it is used."""
