"""The host as a picture on the screen: judged behind the first screen, so that it comes up as fast as without."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING

from wizard.base.glyphs import UNICODE, Glyphs
from wizard.base.text import plural
from wizard.host.model import Accel
from wizard.picture.pieces import Drawing
from wizard.tui.describe import detail_lines
from wizard.tui.lines import ACCEL_ROLE, Line, accel_word, labelled, line
from wizard.tui.rows import Index
from wizard.tui.state import Session
from wizard.tui.widgets.picture import PictureView

if TYPE_CHECKING:
    from wizard.picture.hostmap import HostMap
    from wizard.plan.model import Plan

SLICE = 400  # functions judged between two looks at the keyboard, about 10 ms
SHARE = 0.45  # of the screen, beside the tree


class HostMapView(PictureView):
    """``wizard.picture.hostmap`` of the host, with the session's VMs."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.whole = False  # alone on the screen
        self._index: Index | None = None
        self._session = Session()
        self._plan: Plan | None = None
        self._glyphs: Glyphs = UNICODE
        self._judged: dict[str, Accel] = {}
        self._left: list[str] = []
        self._made: tuple[object, ...] = ()
        self._picture: HostMap | None = None

    def load(self, index: Index, session: Session, plan: Plan | None, glyphs: Glyphs) -> None:
        """Show a host; what is judged stays judged."""
        if index is not self._index:
            self._judged = {}
            self._left = [address for address in index.order if not index.host.functions[address].is_bridge]
            self._index = index
            if len(self._left) <= SLICE:
                self._judge()
            else:
                self.set_timer(0.05, lambda: self._judge_on(index))
        self._session, self._plan, self._glyphs = session, plan, glyphs
        made = (index, session.vms, plan, len(self._judged))
        if made != self._made:
            self._made = made
            self._picture = None
            self.draw(self._drawing)
        self._fit()

    def _judge(self) -> None:
        assert self._index is not None
        now, self._left = self._left[:SLICE], self._left[SLICE:]
        host = self._index.host
        self._judged |= {address: host.verdict(address).accel for address in now}

    def _judge_on(self, index: Index) -> None:
        if index is not self._index:
            return  # another host is shown by now
        # The drawing waits for the last: made again for every slice it would cost more than the judging.
        self._judge()
        if self._left:
            self.set_timer(0.005, lambda: self._judge_on(index))
        elif self.display:
            self.load(index, self._session, self._plan, self._glyphs)

    @property
    def picture(self) -> HostMap:
        """What is shown, as data."""
        assert self._index is not None
        if self._picture is None:
            # Not before there is something to see: the first screen of a small terminal waits for none of it.
            from wizard.picture.hostmap import host_map

            owners = {function.host: vm.name for vm in reversed(self._session.vms) for function in vm.functions}
            self._picture = host_map(
                self._index.host,
                self._plan.vms if self._plan else (),
                names=[vm.name for vm in self._session.vms],
                owner=owners.get,
                verdict=self._judged.get,
                order=self._index.order,
            )
        return self._picture

    def _drawing(self, width: int) -> Drawing:
        from wizard.picture.hosttext import draw

        return draw(self.picture, width, self._glyphs)

    def _fit(self) -> None:
        if self.whole:
            self.styles.height, self.styles.max_height = "1fr", None
        else:
            self.styles.height, self.styles.max_height = max(1, self.count) + 1, max(6, round(self.screen.size.height * SHARE))

    def lines_changed(self) -> None:
        super().lines_changed()
        self._fit()

    # What is under the cursor.

    @property
    def functions(self) -> list[str]:
        """The functions that it stands for."""
        match self.cursor:
            case ("run", _, tuple(addresses)):
                return list(addresses)
            case ("smmu", str(name)):
                return [mark.address for mark in self.picture.row(name).marks]
        return []

    @property
    def subject(self) -> str | None:
        """The SMMU or function that it belongs to."""
        match self.cursor:
            case ("run", _, tuple(addresses)):
                return str(addresses[0])
            case ("smmu" | "cell", str(name), *_):
                return name
        return None

    @property
    def title(self) -> str:
        """The same in words."""
        match self.cursor:
            case ("cell", str(name), str(capability)):
                return f"{capability} of {name}"
            case ("node", str(number)):
                return self.title_of(number)
        return self.subject or ""

    @staticmethod
    def title_of(number: str) -> str:
        """A NUMA node in words; the whole host where none is told."""
        return f"NUMA node {number}" if number else "The host's memory"

    def told(self, key: Hashable, width: int) -> list[Line]:
        """What is known of what a piece stands for, and where from."""
        if self._index is None:
            return []
        from wizard.picture.hosttold import cell_told, node_told

        host = self._index.host
        match key:
            case ("cell", str(name), str(capability)):
                return list(labelled(cell_told(host, name, capability, self.picture), width, f"{capability} of {name}"))
            case ("node", str(number)):
                band = next(one for one in self.picture.bands if number == ("" if one.node is None else str(one.node)))
                return list(labelled(node_told(band, self.picture), width, self.title_of(number)))
            case ("run", _, tuple(addresses)) if len(addresses) > 1:
                return list(self._functions(addresses))
            case ("run", _, (str(address),)):
                return detail_lines(self._index, self._session, address, width, self._glyphs)
            case ("smmu", str(name)):
                return detail_lines(self._index, self._session, name, width, self._glyphs)
        return []

    def _functions(self, addresses: tuple[str, ...]) -> Iterator[Line]:
        assert self._index is not None
        host = self._index.host
        yield line((plural(len(addresses), "function"), "head"))
        for address in addresses:
            verdict = host.verdict(address).accel
            owner = self._session.owner(address)
            sign = (f"{accel_word(verdict, self._glyphs):<10}", ACCEL_ROLE[verdict])
            owned = (f"{owner} " if owner else "", "accent")
            yield line(f"{address} ", sign, owned, host.functions[address].short_name, key=address)
