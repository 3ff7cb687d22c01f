"""The one way to open a host: for every command, for the wizard, and for each time that the wizard reads it again."""

from __future__ import annotations

from wizard.facts.scope import Scope
from wizard.facts.source import Source, read_facts
from wizard.host.build import host_of
from wizard.host.model import Host


def open_host(source: Source, policy: str | None = None, scope: Scope = Scope.WHOLE) -> Host:
    """What the facts of a source mean, under the policy file if one is named; ``InputError`` where either can't be read."""
    return host_of(read_facts(source, policy, scope))
