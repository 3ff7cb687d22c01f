"""The host that a command line names: --replay, --root, --demo, else this machine; and the policy that it is judged under."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from wizard.base.collector import uncollected
from wizard.facts.scope import Scope
from wizard.facts.source import LIVE, Source, SourceKind, read_facts

if TYPE_CHECKING:
    from wizard.facts.model import Facts
    from wizard.host.model import Host


def source_of(arguments: argparse.Namespace) -> Source:
    """The source that the options name."""
    if arguments.replay:
        return Source(SourceKind.REPLAY, arguments.replay)
    if arguments.root:
        return Source(SourceKind.ROOT, arguments.root)
    return Source(SourceKind.DEMO) if arguments.demo else LIVE


def facts_of(arguments: argparse.Namespace) -> Facts:
    """Its facts."""
    with uncollected():
        return read_facts(source_of(arguments), arguments.policy)


def host_for(arguments: argparse.Namespace, scope: Scope = Scope.WHOLE) -> Host:
    """What they mean."""
    from wizard.host.opening import open_host  # who only records has no need of it

    with uncollected():
        return open_host(source_of(arguments), arguments.policy, scope)
