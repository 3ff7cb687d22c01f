"""The rows of the device table and tree, from a host. No Textual here.

A row is cheap: what needs work (verdict, capabilities) is asked of the host when the row is drawn or filtered by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

from wizard.base.address import Address
from wizard.base.glyphs import Glyphs
from wizard.host.filter import Texts
from wizard.host.model import Accel, Function, Host
from wizard.host.uses import told


class Row(NamedTuple):
    """``key`` is an address, the name of an SMMU, or a heading's own key; ``guides`` is drawn before it in a tree."""

    key: str
    kind: str  # function, bridge, smmu, segment, vfs
    label: str
    guides: str = ""
    closed: bool = False
    parent: str | None = None


NO_SMMU = "no SMMU in use"
VFS = "vfs/"  # begins the key of the heading that many VFs of one PF are folded below; its address follows
MANY = 8  # VFs of one PF on one bus from which they are folded: fewer are seen at a look


class Index(Texts):
    """A host prepared for finding things in it: texts to search, the tree's parents and children."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.uses: dict[str, list[str]] = {}
        for use in host.facts.in_use:
            if use.kind != "domain":  # one that does not run uses nothing now
                self.uses.setdefault(use.address, []).append(told(use))

    @cached_property
    def slots(self) -> dict[str, list[str]]:
        """Segment, bus and device -> its functions."""
        found: dict[str, list[str]] = {}
        for address in self.order:
            found.setdefault(self.host.functions[address].address.slot, []).append(address)
        return found

    def companions(self, address: str) -> list[Function]:
        """The other functions of the same device, as Host.companions: without walking the whole host for each key."""
        functions = self.host.functions
        return [functions[other] for other in self.slots[functions[address].address.slot] if other != address]

    @cached_property
    def children(self) -> dict[str, list[str]]:
        """Parent key -> child keys of the tree SMMU → segment → bridge → function."""
        found: dict[str, list[str]] = {"": []}
        functions = self.host.functions
        for name in (*self.host.smmus, NO_SMMU):
            found[name] = []
        for address in self.order:
            function = functions[address]
            above = function.smmu or NO_SMMU
            parent = function.parent
            # A VF hangs below its PF in the administrator's mind, but sits on the bus: the bus decides, as in lspci -t.
            if parent is not None and parent in functions and (functions[parent].smmu or NO_SMMU) == above:
                found.setdefault(parent, []).append(address)
            else:
                segment = f"{above}/{function.address.segment:04x}"
                if segment not in found:
                    found[segment] = []
                    found[above].append(segment)
                found[segment].append(address)
        for above, children in list(found.items()):
            found[above] = list(self._folding(children, found))
        found[""] = [name for name in (*self.host.smmus, NO_SMMU) if found[name] or name != NO_SMMU]
        return found

    def _folding(self, children: list[str], found: dict[str, list[str]]) -> Iterator[str]:
        """The children of one row, with a heading in place of the VFs of one PF where these are many."""
        functions = self.host.functions
        for pf, group in groupby(children, lambda key: functions[key].facts.physfn if key in functions else None):
            vfs = list(group)
            if pf is None or len(vfs) < MANY:
                yield from vfs
                continue
            key = f"{VFS}{pf}/{vfs[0]}"
            found[key] = vfs
            yield key

    @property
    def folds(self) -> frozenset[str]:
        """The headings that VFs are folded below."""
        return frozenset(key for key in self.children if key.startswith(VFS))

    @cached_property
    def parents(self) -> dict[str, str]:
        """Child key -> parent key."""
        return {child: parent for parent, children in self.children.items() for child in children}


def table_rows(index: Index, kept: set[str] | None = None) -> list[Row]:
    """Every function in a flat table, or those of ``kept``."""
    functions = index.host.functions
    chosen = index.order if kept is None else [address for address in index.order if address in kept]
    return [Row(address, "bridge" if functions[address].is_bridge else "function", address) for address in chosen]


def tree_rows(index: Index, glyphs: Glyphs, kept: set[str] | None = None, closed: frozenset[str] = frozenset()) -> list[Row]:
    """The tree in the order it is drawn; with ``kept``, only those functions and what is above them."""
    wanted: set[str] | None = None
    if kept is not None:
        wanted = set()
        for address in kept:
            key: str | None = address
            while key and key not in wanted:
                wanted.add(key)
                key = index.parents.get(key)
    return _rows_of([key for key in index.children[""] if wanted is None or key in wanted], "", None, index, glyphs, wanted, closed)


def refolded(rows: list[Row], key: str, index: Index, glyphs: Glyphs, closed: frozenset[str]) -> list[Row]:
    """The rows of the whole tree after one of them was folded or unfolded, which ``closed`` tells: only what is below it is made anew."""
    y = next(y for y, row in enumerate(rows) if row.key == key)
    row, end = rows[y], y + 1
    while end < len(rows) and len(rows[end].guides) > len(row.guides):
        end += 1
    below: list[Row] = []
    if key not in closed:
        last_sign = glyphs.last + glyphs.across
        lead = row.guides[: -len(last_sign)] + ("  " if row.guides.endswith(last_sign) else f"{glyphs.pipe} ") if row.guides else ""
        below = _rows_of(index.children[key], lead, key, index, glyphs, None, closed)
    return [*rows[:y], row._replace(closed=key in closed), *below, *rows[end:]]


def _rows_of(
    keys: Sequence[str], guides: str, parent: str | None, index: Index, glyphs: Glyphs, wanted: set[str] | None, closed: frozenset[str]
) -> list[Row]:
    """Rows next to each other, and all that is below them."""
    rows: list[Row] = []
    functions, children = index.host.functions, index.children
    last_sign, branch_sign = glyphs.last + glyphs.across, glyphs.branch + glyphs.across
    # A stack of the lists that are not through, and no recursion: a snapshot may hold a chain of bridges as long as it likes.
    # Most rows are functions without any below: these cost a row and no more, for every letter of a filter makes all of them again.
    stack: list[tuple[Iterator[str], str, str, str | None]] = [(iter(keys), keys[-1] if keys else "", guides, parent)]
    while stack:
        left, final, guides, parent = stack[-1]
        for key in left:
            top = parent is None
            own = "" if top else guides + (last_sign if key == final else branch_sign)
            function = functions.get(key)
            below = children.get(key)
            if below and wanted is not None:
                # What was looked for stands there itself, without the heading that it is folded below.
                open_ = [one for child in below for one in (children[child] if child.startswith(VFS) else (child,))]
                below = [child for child in open_ if child in wanted]
            if function:
                kind, label = "bridge" if function.is_bridge else "function", key
            else:
                kind = _heading(key)
                label = key if top else key.split("/")[1] if kind == "vfs" else f"segment {key.rpartition('/')[2]}"
            shut = bool(below) and wanted is None and key in closed
            rows.append(Row(key, kind, label, own, shut, parent))
            if below and not shut:
                lead = "" if top else guides + ("  " if key == final else f"{glyphs.pipe} ")
                stack.append((iter(below), below[-1], lead, key))
                break
        else:
            stack.pop()
    return rows


def _heading(key: str) -> str:
    return "vfs" if key.startswith(VFS) else "segment" if "/" in key else "smmu"


def endpoints(host: Host, addresses: Sequence[str]) -> list[str]:
    """Without bridges."""
    return [address for address in addresses if address in host.functions and not host.functions[address].is_bridge]


def comes_along(host: Host, address: str) -> list[str]:
    """The other endpoints of a function's IOMMU group: they are isolated with it or not at all."""
    function = host.functions.get(address)
    group = host.groups.get(function.group) if function and function.group is not None else None
    return [other for other in endpoints(host, group.devices if group else ()) if other != address]


def counts(host: Host, addresses: Iterable[str]) -> dict[Accel, int]:
    """How many endpoints have which verdict."""
    found = dict.fromkeys(Accel, 0)
    for address in addresses:
        if not host.functions[address].is_bridge:
            found[host.verdict(address).accel] += 1
    return found


def is_address(text: str) -> bool:
    """Whether a key is an address."""
    try:
        Address.parse(text)
    except ValueError:
        return False
    return True
