"""``topology``: the host and its VMs drawn, for people and for documents."""

from __future__ import annotations

import argparse
import os
import shutil
import sys

from wizard.base.exits import Exit
from wizard.cli.output import emit, say
from wizard.cli.planning import plan_of_profiles, say_findings
from wizard.cli.source import host_for

WIDTH = 110
"""Columns of a drawing that does not go to a terminal: both sides fit beside each other."""


def run_topology(arguments: argparse.Namespace) -> int:
    """Status 0 whatever is found of the VMs: a drawing judges nothing, and one of a VM that can't start helps to mend it."""
    from wizard.base.finding import Severity
    from wizard.picture.topology import topology

    host = host_for(arguments)
    plan = None
    if arguments.profiles or arguments.running is not None:
        plan, findings = plan_of_profiles(arguments, host, arguments.profiles)
        errors = tuple(finding for finding in findings if finding.severity is Severity.ERROR)
        say_findings(errors)
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

            emit(arguments, plain(draw(picture, _width(arguments), glyphs_for(os.environ))))
    return Exit.OK


def _width(arguments: argparse.Namespace) -> int:
    if arguments.output or not sys.stdout.isatty():
        return WIDTH
    return shutil.get_terminal_size((WIDTH, 24)).columns
