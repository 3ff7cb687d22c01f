"""Words of scripts, held against bash itself: it runs the same assignments and prints the words that it made."""

import subprocess
from pathlib import Path
from random import Random

from tests.tools.processes import LIMIT
from wizard.existing.words import read_commands

PROGRAM = "qemu-system-aarch64"
SCRIPTS = 400

_TEXTS = ["a", "x,y=1", "-device", "vfio-pci,host=0000:01:00.0", "4G", "é", "#no", "a=b", "%i", "{", "}", "!", "]", "^", "+", ":", "@", "."]
_DOUBLE = ["a b", '\\"', "\\$x", "\\\\", "\\n", "'", "#", "  ", "a\\\nb", "*", "é€", ";|&<>()"]
_SINGLE = ["a b", '"', "\\", "$x", "`", "#", "\n", " \\\n ", '{"driver":"vfio-pci","fd":"3"}']
_ANSI = ["a b", "\\'", "\\n", "\\x41", "\\101", "\\u00e9", "\\xe2\\x82\\xac", "\\t", "\\\\", "\\e", '\\"', "\\z", "\\cA"]
_ESCAPED = ["\\ ", '\\"', "\\'", "\\\\", "\\$", "\\#", "\\a", "\\\n", "\\;", "\\&", "\\,"]
_NAMES = ["v", "w", "opts", "IMG"]
_OPERATORS = ["", ":-d e", "-d", ":+p q", "+p", ":-", ":-$v", ":=new"]


def _part(random: Random, *, nested: bool = True) -> str:
    kind = random.randrange(9 if nested else 5)
    name = random.choice(_NAMES)
    match kind:
        case 0:
            return random.choice(_TEXTS)
        case 1:
            return "'" + "".join(random.choices(_SINGLE, k=random.randrange(3))) + "'"
        case 2:
            return "$'" + "".join(random.choices(_ANSI, k=random.randrange(4))) + "'"
        case 3:
            return random.choice(_ESCAPED)
        case 4:
            inner = "".join(random.choices([*_DOUBLE, *_TEXTS, f"${{{name}}}", f"${name}"], k=random.randrange(4)))
            return f'"{inner}"'
        case 5:
            return random.choice([f"${{{name}}}", f'"${name}"', f'"${{{name}}}"'])
        case 6:
            return random.choice(['"${list[@]}"', "${list[@]}", '"${list[*]}"', '"${list[0]}"', '"${list[1]}"', '"${none[@]}"', '"$@"', '"$list"'])
        case 7:
            return f"${{{name}{random.choice(_OPERATORS)}}}"
        case _:
            return f'"${{{name}{random.choice(_OPERATORS)}}}"'


def _word(random: Random) -> str:
    return "".join(_part(random) for _ in range(random.randint(1, 4)))


def _script(random: Random) -> str:
    lines = ["v='a  b' w= IMG=/x.img opts=$'-m\\t4G '"] if random.random() < 0.7 else []
    for _ in range(random.randrange(5)):
        match random.randrange(5):
            case 0:
                lines.append("list=(" + random.choice([" ", "\n  "]).join(_word(random) for _ in range(random.randrange(4))) + "\n)")
            case 1:
                lines.append("list+=(" + " # said\n ".join(_word(random) for _ in range(random.randrange(3))) + "\n)")
            case 2:
                lines.append(f"{random.choice(_NAMES)}+={_word(random)}")
            case 3:
                lines.append(f"export {random.choice(_NAMES)}={_word(random)}; # a remark with 'one quote")
            case _:
                lines.append(f"{random.choice(_NAMES)}={_word(random)}")
    space = random.choice([" ", " \\\n  ", "\t"])
    command = space.join(_word(random) for _ in range(random.randint(1, 6)))
    return "\n".join(["#!/bin/bash", *lines, f"{random.choice(['', 'env ', 'command '])}{PROGRAM} -machine {command} -end # and 'a remark"]) + "\n"


def test_words_are_those_of_bash(tmp_path: Path) -> None:
    """Hundreds of scripts with every kind of quote, expansion and array, all run by one bash."""
    scripts = [_script(Random(f"words {number}")) for number in range(SCRIPTS)]
    # As functions: hundreds of processes are spared.
    lines = [f'{PROGRAM}() {{ printf "%s\\0" "$@"; }}', 'command() { "$@"; }', 'env() { "$@"; }']
    for number, script in enumerate(scripts):
        (tmp_path / f"{number}.sh").write_text(script)
        lines.append(f"( . ./{number}.sh 2>/dev/null ); printf 'done\\0'")
    (tmp_path / "all.sh").write_text("\n".join(lines))
    environment = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "--norc", "all.sh"], cwd=tmp_path, capture_output=True, timeout=LIMIT, check=True, env=environment)
    answers: list[list[bytes]] = [[]]
    for word in done.stdout.split(b"\0")[:-1]:
        if word == b"done":
            answers.append([])
        else:
            answers[-1].append(word)
    compared = 0
    for script, words in zip(scripts, answers[:-1], strict=True):
        if not words:
            continue  # no script to bash: half a quote stands in a comment
        command = read_commands(script.encode(), "x.sh").commands[0]
        # A variable that is not set is a hole here and nothing to bash.
        if any(word.holes for word in command.words):
            continue
        compared += 1
        assert [word.text.encode(errors="surrogateescape") for word in command.words] == words, script
        for made in command.words:
            for run in made.runs:
                assert script[run.source : run.source + run.end - run.start] == made.text[run.start : run.end]
    assert compared > SCRIPTS // 3
