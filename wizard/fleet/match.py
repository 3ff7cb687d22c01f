"""One host's answer to a request: how many VMs, what they would see, or how near it came and why not.

A pure function of one summary; answers of many hosts are a list, in any order.
"""

from __future__ import annotations

import msgspec

from wizard.fleet.baseline import NOT_READ, nearness
from wizard.fleet.entry import summary_of_entry
from wizard.fleet.fit import MOST, STAGES, Refusal, Sieve, by_memory, capacity, host_fault, sieve, wish_available
from wizard.fleet.gather import Fleet
from wizard.fleet.request import FleetRequest
from wizard.fleet.summary import HostSummary
from wizard.plan.properties import AUTO, NAMES, declared
from wizard.plan.request import Mode


class Miss(msgspec.Struct, frozen=True):
    """Why a host can't: how far it came (a place in ``STAGES``), the finding's code, in words, and of how many how many would do."""

    stage: str
    code: str
    what: str
    needed: int
    there: int

    @property
    def near(self) -> tuple[int, float]:
        """Larger is nearer: the stage, then the share of what is needed."""
        return STAGES.index(self.stage), self.there / self.needed if self.needed else 0.0


class Answer(msgspec.Struct, frozen=True):
    """One host. ``can``: how many VMs, its own spare room left aside; ``auto``: what each property on auto would come to there.
    ``not_known``: what of the host nobody read, so that nothing here speaks for or against it.
    """

    name: str
    host: str | None
    product: str | None
    can: int
    offers: dict[str, int]  # the least that the SMMUs which would be used supply, as numbers
    auto: dict[str, tuple[str, ...]]
    miss: Miss | None = None
    qemu: str | None = None
    not_known: tuple[str, ...] = ()


def answers_of(fleet: Fleet, request: FleetRequest) -> list[Answer]:
    """Every host's answer. Hosts that are alike are asked once."""
    known: dict[bytes, Answer] = {}
    answers = []
    for entry in fleet.entries:
        assert entry.summary is not None
        answer = known.get(entry.summary)
        if answer is None:
            answer = known[entry.summary] = answer_of(entry.name, summary_of_entry(entry), request)
        answers.append(msgspec.structs.replace(answer, name=entry.name, host=entry.host))
    return answers


def answer_of(name: str, summary: HostSummary, request: FleetRequest) -> Answer:
    """What one host says to the request; which host it is (``host``) is not in a summary."""
    held = sieve(summary, request)
    memory = by_memory(summary, request)
    packed = capacity(held, MOST)
    room = min(packed, MOST if memory is None else memory) - request.spare_per_host
    can = max(0, min(room, request.max_per_host or MOST))
    fault = host_fault(summary, request)
    miss = None
    if fault is not None or not can:
        can = 0
        miss = _miss(held, packed, memory, fault)
    used = sorted({held.pools[place].smmu for places in held.serves for place in places} - {-1})
    assume = request.vm.assume_accel
    offers = {}
    if used and request.vm.mode is Mode.ACCEL:
        for place, name_ in enumerate(NAMES):
            offers[name_] = min((o.assumed if assume else o.richest) for o in (summary.smmus[smmu].offers[place] for smmu in used))
    auto = {
        name_: tuple(sorted({_auto(summary.smmus[smmu].offer(name_).automatic, name_) for smmu in used}))
        for name_ in NAMES
        if request.vm.properties.of(name_) == AUTO
    }
    return Answer(
        name=name,
        host=None,
        product=summary.product,
        can=can,
        offers=offers,
        auto=auto,
        miss=miss,
        qemu=summary.qemu,
        not_known=summary.not_known,
    )


def _auto(value: int | None, name: str) -> str:
    return "unknown" if value is None else declared(name).spell(value)


def _miss(held: Sieve, packed: int, memory: int | None, fault: Refusal | None) -> Miss:
    """The first stage that fails; the wish that fails first says so."""
    request = held.request
    rounds = 1 + request.spare_per_host
    for wish, asked in enumerate(request.wishes):
        needed, there = asked.count * rounds, wish_available(held, wish)
        if there >= needed:
            continue
        refused = held.refused[wish]
        all_ = there + sum(len(pool.addresses) for pool, _ in refused)
        if not all_ and not held.summary.functions_read:
            return Miss("device", *NOT_READ, needed, 0)
        if not all_:
            return Miss("device", "no-such-device", f"It has no {asked.kind}.", needed, 0)
        if all_ < needed:
            return Miss("count", "too-few-devices", f"It has {all_} of {needed} {asked.kind}.", needed, all_)
        # Enough are there; the stage at which too few are left decides, and its nearest one says why.
        left = all_
        for stage in STAGES:
            here = [(pool, refusal) for pool, refusal in refused if refusal.stage == stage]
            left -= sum(len(pool.addresses) for pool, _ in here)
            if here and left < needed:
                _, refusal = min(here, key=lambda item: nearness(item[0]))
                return Miss(stage, refusal.code, f"{left} of {needed} {asked.kind}: {refusal.what}", needed, left)
    if not packed:
        return Miss("place", "no-such-place", f"It has the devices, but not {_place(request)}.", 1, 0)
    if packed < rounds:
        return Miss("count", "no-spare-room", f"It holds {packed} such VMs, and is to keep room for {request.spare_per_host}.", rounds, packed)
    if memory is not None and memory < rounds:
        return Miss("memory", "memory-over-host", f"Its memory holds {memory} of {rounds} such VMs.", rounds, memory)
    assert fault is not None
    return Miss(fault.stage, fault.code, fault.what, 1, 0)


def _place(request: FleetRequest) -> str:
    words = []
    if request.same_smmu is not None:
        words.append("behind one SMMU" if request.same_smmu else "each behind another SMMU")
    if request.same_numa is not None:
        words.append("on one NUMA node" if request.same_numa else "each on another NUMA node")
    return " and ".join(words) or "for all wishes at once"
