"""What a big host has thousands of: functions and groups, read by several processes at once.

All of it is read between one fork and one end of a process: a fork of a program that holds a host costs more than reading a hundred functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from wizard.base.shares import in_shares
from wizard.facts.functions import Owners, function_names, read_functions
from wizard.facts.model import Group, PciFunction
from wizard.facts.platform import group_names, read_groups
from wizard.facts.scope import Scope
from wizard.facts.tree import DirectoryTree, Tree

_Share: TypeAlias = tuple[tuple[PciFunction, ...], tuple[Group, ...], dict[str, str]]
_GROUP = 0.3  # of what a function takes: it has ten files and links that are read, a group three


def read_many(tree: Tree, addresses: Iterable[str] | None = None, scope: Scope = Scope.WHOLE) -> tuple[tuple[PciFunction, ...], tuple[Group, ...]]:
    """``read_functions`` (of all addresses, or those given) and ``read_groups``."""
    names = function_names(tree, addresses)
    owners = Owners.of(tree) if scope is Scope.WHOLE else None

    def read(share: Sequence[tuple[bool, str]]) -> _Share:
        functions = read_functions(tree, [name for function, name in share if function], scope, owners)
        return functions, read_groups(tree, [name for function, name in share if not function], scope), tree.unread

    wanted = [*((True, name) for name in names), *((False, name) for name in group_names(tree))]
    shares = in_shares(_Share, wanted, read, weigh=lambda one: 1 if one[0] else _GROUP) if isinstance(tree, DirectoryTree) else [read(wanted)]
    functions: list[PciFunction] = []
    groups: list[Group] = []
    for some, others, unread in shares:
        functions += some
        groups += others
        tree.unread.update(unread)
    return tuple(functions), tuple(groups)
