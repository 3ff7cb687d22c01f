"""What can be typed: the commands, and what they have in common. Only argparse here: commands are imported when they run.

A command line names one of some thirty commands, so the parser of a command is made when it is asked for something (``_Command``),
and the options that it alone has are declared in ``wizard.cli.words``. Neither typing nor msgspec is loaded for a parser: both take
longer than all that is done here.

``--replay``, ``--root``, ``--demo`` and ``--policy`` work before and after the command alike: a sub-parser has no default for
them, since it would silently overwrite what was given before it, and the live host would be shown instead of a snapshot.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from itertools import zip_longest

from wizard.base.errors import UsageError
from wizard.base.formats import version_text
from wizard.base.text import visible
from wizard.cli.options import WIZARD

TYPE_CHECKING = False  # typing's own would load typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, NoReturn

    Run = Callable[[argparse.Namespace], int]

WHEN = ("auto", "always", "never")


class Command:
    """One command: its name and what it is; ``wizard.cli.words.<words>.of_<name>`` declares its options, ``wizard.cli.<runs>.run_<name>`` runs it."""

    def __init__(self, name: str, words: str, runs: str, text: str, *, takes: tuple[str, ...] | None = None, paged: bool = True) -> None:
        self.name, self.text, self.paged = name, text, paged
        self.takes = _HOST if takes is None else takes  # of what names a host, and its policy
        self._words, self._runs, self._function = words, runs, name.replace("-", "_")

    def declare(self, parser: argparse.ArgumentParser) -> None:
        """Its own options."""
        getattr(import_module(f"wizard.cli.words.{self._words}"), f"of_{self._function}")(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        """Its exit status."""
        function: Run = getattr(import_module(f"wizard.cli.{self._runs}"), f"run_{self._function}")
        return function(arguments)


_HOST = ("replay", "root", "demo", "policy")
"""What names a host, and the policy that it is judged under."""

COMMANDS = (
    Command("list", "inspection", "inspect", "functions and their SMMUs"),
    Command("show", "inspection", "inspect", "everything known of one function or SMMU, and where from"),
    Command("doctor", "inspection", "inspect", "what stands in the way on this host, and the fix"),
    Command("explain", "inspection", "explain", "what a message of QEMU, libvirt, a kernel or a guest means, and its cause on a host"),
    Command("record", "inspection", "record", "write a snapshot of a host (-o FILE.umockdev: a umockdev recording)", paged=False),
    Command("prepare", "inspection", "planning", "a script that only binds functions to their vfio driver, with its undo"),
    Command("plan", "planning", "planning", "profiles for one or more VMs"),
    Command("import", "planning", "importing", "profiles of VMs that exist: libvirt domains, QEMU command lines, what runs here"),
    Command("check", "planning", "check", "VMs against the host and against each other"),
    Command("export", "planning", "planning", "a VM as QEMU, OpenVMM or virt-install command, libvirt XML, preparation script or QMP commands"),
    Command("report", "planning", "report", "one HTML page of a host and its VMs, for people who are not at this terminal"),
    Command("topology", "planning", "topology", "the host's SMMUs and the VMs on them, drawn"),
    Command("verify", "running", "verify", "VMs that run here: accelerated by construction, switched on by a guest, translating"),
    Command("dry-run", "simulation", "simulate", "rehearse profiles on the simulated SMMUv3"),
    Command("rehearse", "simulation", "simulate", "build a profile's topology in a real QEMU and compare"),
    Command(
        "translate", "simulation", "simulate", "translation cases on the simulated SMMUv3, or one address in a dump or a QEMU that runs",
        takes=(), paged=False,
    ),
    Command("watch", "running", "watch", "VMs that run, their functions and the SMMUs' events, as they change", takes=(), paged=False),
    Command("hitless", "simulation", "hitless", "updates of live stream table entries and context descriptors, with DMA at every moment", takes=()),
    Command("tables", "simulation", "tables", "what an SMMU's memory and registers say, out of a dump or a QEMU that runs", takes=()),
    Command(
        "smmu-server", "simulation", "smmu_server",
        "the simulated SMMUv3 as a process that drivers and VMMs under test talk to (docs/smmu-protocol.md)", takes=(), paged=False,
    ),
    Command("schema", "simulation", "schema", "JSON Schema of an input format or of a --json output", takes=()),
    Command("diff", "fleet", "fleet", "what changed between two snapshots that matters to VMs", takes=("policy",)),
    Command("baseline", "fleet", "fleet", "the richest vSMMU that every host can supply, and which host holds it down", takes=()),
    Command("match", "fleet", "fleet", "which hosts can hold the VMs of a request, and profiles for them", takes=()),
    Command(
        "index", "fleet", "index", "rows of a fleet's summaries for databases (rows), or indexes as one (merge TARGET INDEX…)", takes=(),
    ),
    Command("engine", "fleet", "fleet", "a host's labels and devices, or a profile's VM, in the format of Kubernetes, OpenNebula and others"),
)  # fmt: skip
"""Every command, in the order of --help."""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The arguments, with ``run`` the command's function; raises SystemExit for usage, UsageError for contradictions."""
    parser = build()
    arguments, rest = parser.parse_known_args(words)
    if rest:
        parser.error(_unrecognised(parser, arguments.command, rest))
    for name, shown in _NAMING.items():
        if getattr(arguments, name, None) == "":
            # `--replay "$SNAPSHOT"` with a variable that is not set would silently show the live host.
            raise UsageError(f"{shown} names nothing.", f"Name it, or leave {shown} away.")
    sources = [name for name in ("replay", "root", "demo") if getattr(arguments, name)]
    if len(sources) > 1:
        raise UsageError(f"--{sources[0]} and --{sources[1]} name two hosts.", "Give one of them, or none for this machine.")
    # --demo alone is no word about a host that somebody has: scripts/demo gives it to every command.
    ignored = [name for name in _HOST if name != "demo" and getattr(arguments, name) and name not in arguments.takes]
    if ignored:
        # Left aside in silence, a policy that says no would end in a yes.
        fix = f"Leave it away; `smmu-wizard {arguments.command} --help` says what it takes."
        raise UsageError(f"{arguments.command} has no use for --{ignored[0]}.", fix)
    return arguments


_NAMING = {
    "replay": "--replay", "root": "--root", "policy": "--policy", "script": "--script", "output": "-o", "index": "--index", "dask": "--dask",
    "qemu": "--qemu", "smmu": "--smmu", "device": "--device", "class_": "--class", "target": "--target", "firmware": "--firmware", "user": "--user",
    "qmp": "--qmp", "guest": "--guest", "postmortem": "--postmortem", "state": "--state",
}  # fmt: skip
"""Options that are the same as left out when their value is empty, were it not refused."""


def build() -> argparse.ArgumentParser:
    """The whole parser, also for the manual page and completions."""
    parser = _Parser(
        prog="smmu-wizard",
        description="Give PCI devices to virtual machines behind accelerated SMMUv3s. Without a command: the wizard.",
        epilog="Exit status: 0 fine, 1 findings of severity error, 2 usage, 3 input that can't be read, 4 a program missing or failed, "
        "5 output that can't be written, 70 internal error, 130 interrupted.",
        allow_abbrev=False,
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=version_text())
    _sources(parser, first=True)
    parser.add_argument("--script", metavar="FILE", help="play a list of keys in the wizard, headless, and save the screenshots it asks for")
    _looks(parser, first=True)
    parser.set_defaults(run=_run_wizard, command=WIZARD, takes=_HOST, paged=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Command)
    for one in COMMANDS:
        commands.add_parser(one.name, help=one.text, command=one)
    return parser


def _run_wizard(arguments: argparse.Namespace) -> int:
    from wizard.cli.wizard import run

    return run(arguments)


class _Formatter(argparse.HelpFormatter):
    """argparse's own, which asks shutil for the width whenever an option is declared; and shutil loads every unpacker that Python has."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    # As shutil.get_terminal_size() has it.
    try:
        columns = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        columns = 0
    if columns > 0:
        return columns
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr] # None without one
    except (AttributeError, ValueError, OSError):
        return 80


class _Parser(argparse.ArgumentParser):
    """argparse's own, whose complaints repeat the words that it was given: file names from a stranger's directory, for instance."""

    def error(self, message: str) -> NoReturn:
        super().error(visible(message))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # Python 3.14 has suggest_on_error; 3.11 has not.
        if action.choices is not None and value not in action.choices:
            choices = list(map(str, action.choices))
            meant = _meant(str(value), choices)
            hint = f", did you mean {meant}?" if meant else ""
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}{hint} (choose from {', '.join(choices)})")


def _meant(word: str, choices: Iterable[str]) -> str:
    """What was meant by a mistyped word, empty where nothing is like it."""
    from difflib import get_close_matches

    every = list(choices)
    begun = [one for one in every if len(word) > 2 and one.startswith(word)]
    return next(iter(begun if len(begun) == 1 else get_close_matches(word, every, 1, 0.6)), "")


def _unrecognised(parser: argparse.ArgumentParser, command: str, words: Sequence[str]) -> str:
    """Argparse's sentence, with what was meant by the first option that is none."""
    said = f"unrecognized arguments: {' '.join(words)}"
    word = next((word.partition("=")[0] for word in words if word.startswith("-")), None)
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    chosen = subparsers.choices.get(command, parser)
    options = [option for action in chosen._actions for option in action.option_strings if option.startswith("--")]
    if word is None:
        return said
    if word in options:
        return f"{said} ({word} comes behind {command})"
    meant = _meant(word, options)
    return f"{said} (did you mean {meant}?)" if meant else said


class _Command(_Parser):
    """The words after a command. It is made when it is first asked for anything: one of thirty ever is, but for the manual page.

    An option whose value may be left out takes the next word only when that is one of its choices, so that ``translate --trace CASE`` is
    what it looks like.
    """

    def __init__(self, command: Command, **others: Any) -> None:
        self._later: tuple[Command, dict[str, Any]] | None = (command, others)

    def __getattr__(self, name: str) -> Any:
        # Python asks here only for what is not there: at first everything that argparse keeps.
        if name.startswith("__") or self._later is None:
            raise AttributeError(name)
        (command, others), self._later = self._later, None
        text = command.text
        super().__init__(description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False, formatter_class=_Formatter, **others)
        if command.takes == _HOST:
            _sources(self, first=False)
        elif command.takes:
            _policy(self, argparse.SUPPRESS)
        _looks(self, first=False)
        self.set_defaults(run=command.run, command=command.name, takes=command.takes, paged=command.paged)
        command.declare(self)
        return getattr(self, name)

    def _check_help(self, action: argparse.Action) -> None:
        # Python 3.14 looks whether what --help says beside a command's name has sound format characters, by a formatter of the command's own.
        if self._later is None:
            super()._check_help(action)  # type: ignore[misc] # typeshed does not know it

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = list(args or ())
        for action in self._actions:
            if action.nargs == "?" and action.choices and action.option_strings:
                followed = zip_longest(words, words[1:])
                words = [f"{one}={action.const}" if one in action.option_strings and two not in action.choices else one for one, two in followed]
        return super().parse_known_args(words, namespace)


def _sources(parser: argparse.ArgumentParser, *, first: bool) -> None:
    group = parser.add_argument_group("host", "without one of these: the machine that this runs on")

    def default(value: object) -> object:
        return value if first else argparse.SUPPRESS

    snapshot = "a recorded snapshot, a umockdev recording, or pasted text: lspci, dmesg, acpidump, groups … (also .gz, .xz; - for standard input)"
    group.add_argument("--replay", metavar="SNAPSHOT", default=default(None), help=snapshot)
    tree = "a directory (or tar) that holds a host's sys/ and, where they exist, proc/, dmesg …"
    group.add_argument("--root", metavar="DIR", default=default(None), help=tree)
    group.add_argument("--demo", action="store_true", default=default(False), help="the fixture that comes with the program")
    _policy(group, default(None))


def _policy(group: argparse._ActionsContainer, default: object) -> None:
    group.add_argument("--policy", metavar="FILE", default=default, help="a policy file (live: /etc/smmu-wizard/policy.toml)")


def _looks(parser: argparse.ArgumentParser, *, first: bool) -> None:
    """How a command talks to a terminal; like the host's, these work before and after the command."""
    group = parser.add_argument_group("terminal", "where output is looked at; a pipe gets plain text")
    group.add_argument(
        "--color",
        metavar="WHEN",
        choices=WHEN,
        default=WHEN[0] if first else argparse.SUPPRESS,
        help="colours; NO_COLOR and TERM=dumb: never",
    )
    group.add_argument(
        "--no-pager", action="store_true", default=False if first else argparse.SUPPRESS, help="never a pager ($SMMU_WIZARD_PAGER, $PAGER, less)"
    )
