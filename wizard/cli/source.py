"""The host a command speaks of: live, a snapshot, a tree, or the demo that comes with the program."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import msgspec

from wizard.base.errors import InputError
from wizard.facts.model import Facts
from wizard.host.build import host_of
from wizard.host.model import Host

if TYPE_CHECKING:
    from wizard.facts.pseudonym import Secrets

DEMO = "arm64-virt-canwbs.json"


def facts_of(arguments: argparse.Namespace) -> Facts:
    """Facts by --replay, --root, --demo, or of this machine; --policy replaces the policy they carry."""
    facts = _read(arguments)
    if arguments.policy:
        from wizard.facts.policy import load_policy

        facts = msgspec.structs.replace(facts, policy=load_policy(arguments.policy))
    return facts


def _read(arguments: argparse.Namespace) -> Facts:
    if arguments.replay:
        if arguments.replay.endswith(".umockdev"):
            from wizard.facts.umockdev import load_umockdev

            loaded: Facts = load_umockdev(arguments.replay)
            return loaded
        from wizard.facts.snapshot import load

        return load(arguments.replay)
    if arguments.root:
        from wizard.facts.record import from_tree
        from wizard.facts.tree import open_tree

        return from_tree(open_tree(arguments.root))
    if arguments.demo:
        return demo()
    from wizard.facts.live import read_live

    return read_live()


def secrets_for(arguments: argparse.Namespace) -> Secrets:
    """What must not be told of the host that the arguments name, and the key of its pseudonyms."""
    from wizard.facts.pseudonym import Secrets, secrets_of
    from wizard.facts.tree import DirectoryTree, open_tree

    if arguments.root:
        return secrets_of(open_tree(arguments.root))
    if arguments.replay or arguments.demo:
        return Secrets()  # a recording holds no machine-id: values are numbered as they come
    return secrets_of(DirectoryTree("/", live=True), live=True)


def demo() -> Facts:
    """The shipped fixture: inside the wheel, or beside the package in a checkout."""
    from importlib import resources
    from pathlib import Path

    from wizard.facts.snapshot import decode

    packed = resources.files("wizard") / "demo" / DEMO
    checkout = Path(__file__).resolve().parents[2] / "fixtures" / DEMO
    if packed.is_file():
        return decode(packed.read_bytes(), DEMO)
    if checkout.is_file():
        return decode(checkout.read_bytes(), DEMO)
    raise InputError(f"The demo host {DEMO} is not in this installation.", "Install smmu-wizard again from its wheel.")


def host_for(arguments: argparse.Namespace) -> Host:
    """What the facts mean."""
    return host_of(facts_of(arguments))
