"""``topology``: the host and its VMs drawn, for people and for documents."""

from __future__ import annotations

import argparse
import os
import sys

from wizard.base.exits import Exit
from wizard.cli.lines import line
from wizard.cli.output import emit, face, print_lines, say, say_findings
from wizard.cli.planning import plan_of_profiles
from wizard.cli.source import host_for
from wizard.cli.terminal import is_terminal, size_of

WIDTH = 110
"""Columns of a drawing that does not go to a terminal: both sides fit beside each other."""


def run_topology(arguments: argparse.Namespace) -> int:
    """Status 0 whatever is found of the VMs: a drawing judges nothing, and one of a VM that can't start helps to mend it."""
    from wizard.base.finding import Severity, grouped
    from wizard.picture.topology import topology

    host = host_for(arguments)
    plan = None
    if arguments.profiles or arguments.running is not None:
        plan, findings = plan_of_profiles(arguments, host, arguments.profiles)
        say_findings(grouped(finding for finding in findings if finding.severity is Severity.ERROR))
        if plan is None:
            say("Nothing was drawn: these VMs can't be read.")
            return Exit.FINDINGS
    picture = topology(host, plan)
    match arguments.format:
        case "svg":
            from wizard.picture.toposvg import svg

            emit(arguments, svg(picture))
        case "dot":
            from wizard.picture.topodot import dot

            emit(arguments, dot(picture))
        case _:
            from wizard.base.glyphs import glyphs_for
            from wizard.picture.pieces import plain
            from wizard.picture.topotext import draw

            names = host.functions
            drawing = draw(picture, _width(arguments), glyphs_for(os.environ), name=lambda address: names[address].short_name)
            if arguments.output:
                emit(arguments, plain(drawing))
            else:
                print_lines(line(*((piece.text, piece.role) for piece in one)) if face().colour else plain([one]) for one in drawing)
    return Exit.OK


def _width(arguments: argparse.Namespace) -> int:
    return size_of(sys.stdout, os.environ)[0] if is_terminal(sys.stdout) and not arguments.output else WIDTH
