"""The words of every command. Only argparse here: commands are imported when they run.

``--replay``, ``--root``, ``--demo`` and ``--policy`` work before and after the command alike: a sub-parser has no default for
them, since it would silently overwrite what was given before it, and the live host would be shown instead of a snapshot.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any, NoReturn

from wizard import __version__
from wizard.base.errors import UsageError
from wizard.base.text import visible
from wizard.cli.options import WIZARD, add_json, add_output, add_severity

Run = Callable[[argparse.Namespace], int]
WHEN = ("auto", "always", "never")

FORMATS = ("qemu", "qemu-json", "libvirt", "virt-install", "openvmm", "prepare", "qmp")
"""What a VM is exported as."""


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


_HOST = ("replay", "root", "demo", "policy")
"""What names a host, and the policy that it is judged under."""


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
    parser.set_defaults(run=_lazy("wizard.cli.wizard", "run"), command=WIZARD, takes=_HOST, paged=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Command)

    def add(name: str, module: str, text: str, *, host: bool = True, policy: bool = False, paged: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False, formatter_class=_Formatter)
        if host:
            _sources(command, first=False)
        elif policy:
            _policy(command, argparse.SUPPRESS)
        _looks(command, first=False)
        takes = _HOST if host else _HOST[-1:] if policy else ()
        command.set_defaults(run=_lazy(module, f"run_{name.replace('-', '_')}"), command=name, takes=takes, paged=paged)
        return command

    from wizard.cli.fleet import declare

    _inspection(add)
    _planning(add)
    _running_vms(add)
    _simulation(add)
    declare(add)
    return parser


class _Formatter(argparse.HelpFormatter):
    """argparse's own, which asks shutil for the width whenever an option is declared; and shutil loads every unpacker that Python has."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    # As shutil.get_terminal_size() has it.
    with suppress(KeyError, ValueError):
        if (columns := int(os.environ["COLUMNS"])) > 0:
            return columns
    with suppress(AttributeError, ValueError, OSError):
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr] # None without one
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
    """The words after a command.

    An option whose value may be left out takes the next word only when that is one of its choices, so that ``translate --trace CASE`` is
    what it looks like.
    """

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = list(args or ())
        for action in self._actions:
            if action.nargs == "?" and action.choices and action.option_strings:
                followed = zip_longest(words, words[1:])
                words = [f"{one}={action.const}" if one in action.option_strings and two not in action.choices else one for one, two in followed]
        return super().parse_known_args(words, namespace)


Add = Callable[..., argparse.ArgumentParser]


def _inspection(add: Add) -> None:
    command = add("list", "wizard.cli.inspect", "functions and their SMMUs")
    text = "the wizard's filter: words that all have to match, anywhere or as field:word; with --ndjson or --csv: snapshots, or directories of them"
    command.add_argument("filter", metavar="FILTER", nargs="*", help=text)
    command.add_argument("-q", "--quiet", action="store_true", help="addresses alone")
    command.add_argument("--smmu", metavar="NAME", help="only what belongs to this SMMU")
    add_json(command)
    command.add_argument("--ndjson", action="store_true", help="one JSON object a line for each function, of this host or of every snapshot named")
    command.add_argument("--csv", action="store_true", help="the same rows as CSV (RFC 4180), the names of the columns first")
    command = add("show", "wizard.cli.inspect", "everything known of one function or SMMU, and where from")
    command.add_argument("subject", metavar="FUNCTION|SMMU|PART-OF-A-NAME", nargs="+", help="a name, or the words of a filter that finds one")
    add_severity(command, quiet=False)
    add_json(command)
    command = add("doctor", "wizard.cli.inspect", "what stands in the way on this host, and the fix")
    command.add_argument(
        "--knowledge", action="store_true", help="how old the tables of devices, kernels and the like are, and what they were read from"
    )
    add_severity(command)
    add_json(command)
    command = add("explain", "wizard.cli.explain", "what a message of QEMU, libvirt, a kernel or a guest means, and its cause on a host")
    command.add_argument("text", metavar="TEXT|FILE|-", nargs="*", help="a message, files, - for a paste, or the raw words of an event")
    command.add_argument("--profile", metavar="PROFILE", action="append", default=[], help="hold the causes against this VM too (may be repeated)")
    command.add_argument("--list", action="store_true", help="every message that is known")
    add_json(command)
    command = add("record", "wizard.cli.record", "write a snapshot of a host (-o FILE.umockdev: a umockdev recording)", paged=False)
    add_output(command)
    command.add_argument("--no-redact", action="store_true", help="keep serial numbers, MAC and IP addresses, UUIDs and names")
    command.add_argument("--probe", action="store_true", help="also ask iommufd, of functions already on a vfio driver; opening one resets it")
    command.add_argument("--yes", action="store_true", help="do not ask before a probe")
    command.add_argument("--summary", action="store_true", help="write only what baseline and match need of it: they read it at once")
    command = add("prepare", "wizard.cli.planning", "a script that only binds functions to their vfio driver, with its undo")
    command.add_argument("functions", metavar="FUNCTION", nargs="+")
    add_output(command)


def _planning(add: Add) -> None:
    from wizard.cli.planoptions import add_plan_options, add_vmm

    command = add("plan", "wizard.cli.planning", "profiles for one or more VMs")
    add_plan_options(command)
    add_severity(command)
    add_output(command, "directory for NAME.toml of each VM; without it they are printed")
    add_json(command)
    command = add("import", "wizard.cli.importing", "profiles of VMs that exist: libvirt domains, QEMU command lines, what runs here")
    command.add_argument(
        "domains", metavar="FILE|-", nargs="*", help="libvirt XML, or a QEMU command line: a script, a unit, a log, /proc/PID/cmdline"
    )
    _running(command)
    command.add_argument("--fix", action="store_true", help="hold them against the host, and mend what can be mended by rule")
    add_severity(command)
    _permissions(command)
    add_output(command, "directory for NAME.toml of each VM; without it they are printed")
    add_json(command)
    command = add("check", "wizard.cli.check", "VMs against the host and against each other")
    command.add_argument("profiles", metavar="PROFILE|DOMAIN", nargs="*", help="profiles, libvirt XML, QEMU command lines; - for standard input")
    _running(command)
    add_vmm(command, "judge them as VMs of this VMM (default: that of each profile)")
    add_severity(command)
    command.add_argument("--fix", action="store_true", help="mend what can be mended by rule, and show the difference")
    command.add_argument("--in-place", action="store_true", help="with --fix: write the mended VM over its file")
    _permissions(command)
    add_output(command, "with --fix: write the mended VM to this file")
    add_json(command)
    command = add("export", "wizard.cli.planning", "a VM as QEMU, OpenVMM or virt-install command, libvirt XML, preparation script or QMP commands")
    command.add_argument("profile", metavar="PROFILE|DOMAIN")
    command.add_argument("--format", required=True, choices=FORMATS)
    command.add_argument("--traces", action="store_true", help="qemu, qemu-json: write the guest's unmaps and faults to QEMU's log from its start")
    add_severity(command)
    _permissions(command)
    add_output(command)
    command = add("report", "wizard.cli.report", "one HTML page of a host and its VMs, for people who are not at this terminal")
    command.add_argument("profiles", metavar="PROFILE|DOMAIN", nargs="*", help="VMs that belong into it; without one the host alone")
    _running(command)
    command.add_argument("--no-redact", action="store_true", help="keep serial numbers, MAC and IP addresses, UUIDs and names")
    _permissions(command)
    add_output(command, "write to a file (FILE.html) instead of standard output")
    command = add("topology", "wizard.cli.topology", "the host's SMMUs and the VMs on them, drawn")
    command.add_argument("profiles", metavar="PROFILE|DOMAIN", nargs="*", help="VMs to draw; without one the host alone")
    _running(command)
    command.add_argument("--format", choices=["text", "svg", "dot"], default="text", help="for people, for documents, for Graphviz (text)")
    _permissions(command)
    add_output(command)


def _running_vms(add: Add) -> None:
    command = add("verify", "wizard.cli.verify", "VMs that run here: accelerated by construction, switched on by a guest, translating")
    command.add_argument(
        "vms", metavar="PROFILE|DOMAIN|NAME", nargs="*", help="a profile or domain to hold them against, or a name or process number; none: all"
    )
    command.add_argument("--translating", metavar="SECONDS", type=_seconds, help="trace QEMU for at most so long, which tells whether it translates")
    command.add_argument("--yes", action="store_true", help="do not ask before a trace")
    command.add_argument(
        "--guest",
        metavar="SNAPSHOT|agent",
        help="what was recorded in the guest (record, --guest-script), or asked by its agent (agent, agent:SOCKET)",
    )
    command.add_argument(
        "--postmortem", metavar="FILE", help="write all that a maintainer needs of these VMs, running or not, into one redacted file"
    )
    command.add_argument("--force", action="store_true", help="replace what is there")
    command.add_argument("--guest-script", action="store_true", help="print a shell script that records it in a guest without Python")
    command.add_argument("--qmp", metavar="SOCKET", help="ask QEMU through this socket instead of the VM's own")
    add_severity(command, quiet=False)
    add_json(command)


def _simulation(add: Add) -> None:
    from wizard.cli.dryrun import add_workload_options

    command = add("dry-run", "wizard.cli.simulate", "rehearse profiles on the simulated SMMUv3")
    command.add_argument("profiles", metavar="PROFILE|DOMAIN", nargs="+")
    command.add_argument("--trace", metavar="FUNCTION@IOVA", help="the whole walk of one address")
    add_workload_options(command)
    add_severity(command)
    _permissions(command)
    add_json(command)
    command = add("rehearse", "wizard.cli.simulate", "build a profile's topology in a real QEMU and compare")
    command.add_argument("profile", metavar="PROFILE|DOMAIN")
    command.add_argument("--qemu", metavar="PATH", help="the QEMU to use (default: the one in PATH)")
    add_severity(command)
    _permissions(command)
    add_json(command)
    command = add(
        "translate",
        "wizard.cli.simulate",
        "translation cases on the simulated SMMUv3, or one address in a dump or a QEMU that runs",
        host=False,
        paged=False,
    )
    command.add_argument("case", metavar="CASE|-|SID", help="a file with one case or a list of them, - for one case a line; of a dump, a StreamID")
    command.add_argument("iova", metavar="IOVA", nargs="?", help="of a dump: the input address")
    command.add_argument("--trace", nargs="?", const="text", choices=["text", "json"], help="say which words were read and why the walk ended")
    command.add_argument("--coverage", action="store_true", help="say at the end which behaviours of the specification the cases have exercised")
    _dump(command)
    command.add_argument("--read", action="store_true", help="of a dump: a read, not a write")
    command.add_argument("--ssid", metavar="N", help="of a dump: the SubstreamID (PASID) of the access")
    command = add("watch", "wizard.cli.watch", "VMs that run, their functions and the SMMUs' events, as they change", host=False, paged=False)
    command.add_argument("vms", metavar="NAME", nargs="*", help="these VMs alone, by name or process number (default: all)")
    command.add_argument("--for", dest="seconds", metavar="SECONDS", type=float, help="end after so many seconds (default: when interrupted)")
    command.add_argument("--log", metavar="FILE", help="follow this file in place of the kernel's log")
    command.add_argument(
        "--profile",
        metavar="PROFILE|DOMAIN",
        action="append",
        default=[],
        help="what a VM was planned as, which says where addresses lie in it (default: its command line; may be repeated)",
    )
    command.add_argument("--no-qmp", action="store_true", help="leave QMP sockets to other clients: no events of QEMU's own")
    command.add_argument(
        "--tracepoints", nargs="?", const="domains", choices=["domains", "all"],
        help="switch the kernel's IOMMU tracepoints on, in a trace instance that is taken away at the end (all: map and unmap too, which are many)",
    )  # fmt: skip
    command.add_argument("--prometheus", metavar="FILE", help="keep a textfile for node_exporter up to date")
    add_json(command)
    command = add(
        "hitless", "wizard.cli.hitless", "updates of live stream table entries and context descriptors, with DMA at every moment", host=False
    )
    command.add_argument("case", metavar="CASE|-", help="a file with one case or a list of them, or - for one case a line")
    add_json(command)
    command = add("tables", "wizard.cli.tables", "what an SMMU's memory and registers say, out of a dump or a QEMU that runs", host=False)
    command.add_argument(
        "action", metavar="ACTION", choices=["streams", "map", "who", "check", "events", "diff"],
        help="streams: every valid StreamID; map SID: all that it reaches; who ADDRESS [BYTES]: which streams reach physical memory; "
        "check: what is illegal, inconsistent or exposed; events: the event queue; diff: against a second dump",
    )  # fmt: skip
    command.add_argument("words", metavar="WORD", nargs="*", help="a StreamID, or an address and a number of bytes")
    _dump(command)
    command.add_argument("--to-mem", metavar="FILE@ADDRESS", action="append", help="memory of the second dump")
    command.add_argument("--to-registers", metavar="FILE", help="registers of the second dump")
    add_json(command)
    text = "the simulated SMMUv3 as a process that drivers and VMMs under test talk to (docs/smmu-protocol.md)"
    command = add("smmu-server", "wizard.cli.smmu_server", text, host=False, paged=False)
    command.add_argument("--socket", metavar="PATH", help="listen at this Unix socket, which its owner alone may use")
    command.add_argument("--stdio", action="store_true", help="talk on standard input and output, until the end of the first")
    command.add_argument("--once", action="store_true", help="end when the last client has gone")
    text = "an SMMU and where its registers are; keys: like, idr0, idr1, idr3, idr5, aidr, gbpa, caches (may be repeated; default: smmu0@0x9050000)"
    command.add_argument("--smmu", metavar="NAME[@BASE][,KEY=VALUE…]", action="append", default=[], help=text)
    text = "memory: 0x40000000+1G (may be repeated; default: 0x40000000+3G, unless there is a file)"
    command.add_argument("--ram", metavar="START+SIZE", action="append", default=[], help=text)
    text = "memory that is a file's or memfd's, mapped shared (may be repeated)"
    command.add_argument("--ram-file", metavar="FILE@ADDRESS", action="append", default=[], help=text)
    command.add_argument("--coverage", action="store_true", help="note which behaviours of the specification are exercised, for the command coverage")
    command.add_argument("--state", metavar="FILE", help="begin with the state that this file holds, where it is there, and write it at the end")
    command.add_argument("--include", action="store_true", help="print the directory of smmu_wizard.h, the client in C, and end")
    command = add("schema", "wizard.cli.schema", "JSON Schema of an input format or of a --json output", host=False)
    command.add_argument("name", metavar="NAME", nargs="?", help="without a name: the names there are")


def _dump(command: argparse.ArgumentParser) -> None:
    text = "an image of memory (FILE@ADDRESS), a vmcore or a listing of words; also more than once"
    command.add_argument("--mem", metavar="FILE@ADDRESS", action="append", help=text)
    command.add_argument("--registers", metavar="FILE", help="the SMMU's registers: name = value, devmem's words, QEMU's xp")
    command.add_argument("--qmp", metavar="SOCKET", help="instead: a QEMU that runs, by its monitor; nothing is changed, the guest goes on")
    command.add_argument(
        "--gdb", metavar="HOST:PORT|SOCKET", help="instead: a QEMU that runs, by its gdbstub; the guest stands meanwhile, and it asks before"
    )
    command.add_argument("--smmu", metavar="ADDRESS", help="with --qmp or --gdb: where the SMMU's registers are, of several")
    command.add_argument("--yes", action="store_true", help="do not ask before --gdb stops the guest")


def _seconds(text: str) -> float:
    """1 to 60: what is traced is written to somebody's disk."""
    value = float(text)
    if not 1 <= value <= 60:
        raise argparse.ArgumentTypeError(f"{text} is not 1 to 60 seconds")
    return value


def _running(command: argparse.ArgumentParser) -> None:
    command.add_argument("--running", metavar="NAME", nargs="?", const="", help="the VMs that run on this machine, or the one of a name")


def _permissions(command: argparse.ArgumentParser) -> None:
    """What a person may allow although the program would refuse it; a profile keeps the first, never the second."""
    command.add_argument("--assume-accel", action="store_true", help="take an unknown verdict or an assumed value for a yes")
    command.add_argument("--allow-in-use", metavar="FUNCTION", action="append", default=[], help="plan a function that the host uses (needs --yes)")
    command.add_argument("--yes", action="store_true", help="confirm --allow-in-use")


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


def _lazy(module: str, name: str) -> Run:
    def run(arguments: argparse.Namespace) -> int:
        function: Run = getattr(importlib.import_module(module), name)
        return function(arguments)

    return run


def version_text() -> str:
    """The version, with those of the formats."""
    from wizard.facts.model import VERSION

    return f"smmu-wizard {__version__} (snapshot format {VERSION}, profile format 1, output schema 1)"
