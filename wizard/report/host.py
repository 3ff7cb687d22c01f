"""The host's part of a report: its map, what stands in the way, every function with its verdict and what it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from wizard.base.text import plural, size
from wizard.host.describe import kernel_text, pages_text, product_text
from wizard.host.doctor import Diagnosis
from wizard.host.iort import promises, smmu_at, word
from wizard.host.known import Known, Source
from wizard.host.model import KIND_NAMES, Accel, Function, Host
from wizard.picture.hostmap import CAPABILITIES, Band, Cell, HostMap, Mark, SmmuRow, State, runs
from wizard.picture.hosttext import HELD_BY_HOST, NO_SMMU, gib
from wizard.picture.hosttold import MEANINGS
from wizard.report.html import Content, Markup, joined, link, row, table, tag, text
from wizard.report.words import SIGN, Findings, anchor, verdict

_STRIP = 160  # signs of one SMMU's strip; with more, neighbours that look alike are one
_STATE_SIGN = {"yes": SIGN[Accel.YES], "no": SIGN[Accel.NO], "unknown": SIGN[Accel.UNKNOWN]}


def identity(host: Host) -> list[tuple[str, Content]]:
    """What the host is."""
    facts = host.facts
    known: list[tuple[str, str | None]] = [
        ("host", product_text(host)), ("firmware", facts.identity.firmware), ("kernel", f"{kernel_text(host)} {facts.kernel.machine}".strip()),
        ("pages", pages_text(host)), ("CPUs", str(facts.cpus) if facts.cpus else None),
        ("memory", gib(facts.memory_total) if facts.memory_total else None), ("recorded", facts.moment.time),
        ("identity", facts.identity.host), ("digest", host.digest),
    ]  # fmt: skip
    return [(name, value or "not read") for name, value in known if value or name in ("firmware", "recorded")]


def host_map(host: Host, picture: HostMap) -> Iterator[Markup]:
    """SMMUs by capability, the functions below each as a strip, NUMA nodes."""
    if picture.rows:
        heads = ["SMMU", "node", *(tag("abbr", name, title=MEANINGS[name]) for name in CAPABILITIES), "functions"]
        yield table(heads, (_smmu(host, one, picture) for one in picture.rows), label="SMMUs by capability")
    else:
        yield tag("p", "No IOMMU is known on this host.")
    if picture.outside:
        yield tag("p", f"{NO_SMMU}: ", _strip(host, picture.outside, picture), class_="strip")
    signs = (f"{_STATE_SIGN['yes']} yes", f"{_STATE_SIGN['no']} no", f"{_STATE_SIGN['unknown']} not known", "* assumed: no yes rests on it")
    legend = f"{', '.join(signs)}. Below each value is what it is known from. In a strip each sign is a function: its verdict, "
    yield tag("p", legend, f"{HELD_BY_HOST} where the host itself uses it, or the letter of its VM.", class_="dim")
    if picture.bands:
        yield tag("h3", "Memory")
        heads = ["NUMA node", "memory", "CPUs", "to VMs", "left", "hugepages free", "SMMUs"]
        yield table(heads, (_band(one, picture) for one in picture.bands), label="NUMA nodes")


def _smmu(host: Host, one: SmmuRow, picture: HostMap) -> Markup:
    name = tag("th", one.name, tag("br"), tag("small", _firmware(host, one)), class_="mono", scope="row") if one.kind == "smmuv3" else text(one.name)
    node = "–" if one.node is None else str(one.node)
    cells: list[Content] = [_cell(cell) for cell in one.cells] or [tag("td", KIND_NAMES.get(one.kind, one.kind), colspan=str(len(CAPABILITIES)))]
    if one.platform_devices:
        strip = tag("td", _strip(host, one.marks, picture), f" and {plural(one.platform_devices, 'platform device')}", class_="strip")
    else:
        strip = tag("td", _strip(host, one.marks, picture), class_="strip")
    return row([name, node, *cells, strip], id=f"smmu-{picture.rows.index(one)}")


def _firmware(host: Host, one: SmmuRow) -> str:
    if host.by_tree or host.iort is None:
        return ""
    node = smmu_at(host.iort, host.smmus[one.name].base)
    return "" if node is None else "IORT: " + ", ".join(f"{name} {word(value)}" for name, value in promises(node).items())


def _cell(cell: Cell) -> Markup:
    sign = _STATE_SIGN.get(cell.value, cell.value) + ("*" if cell.state is State.ASSUMED else "")
    sources = ", ".join(str(source) for source in cell.sources if source is not Source.NONE) or "not read"
    notes = "; ".join(f"{name}: {known.show()}{f' ({known.note})' if known.note else ''}" for name, known in cell.parts)
    shown = sign if cell.value not in _STATE_SIGN else f"{sign} {cell.value}"
    return tag("td", tag("span", shown, class_=cell.state), tag("br"), tag("small", sources), class_="value", title=notes)


def _strip(host: Host, marks: tuple[Mark, ...], picture: HostMap) -> Markup:
    if len(marks) > _STRIP:
        folded = [(run.first, len(run.marks)) for run in runs(marks)]
        if len(folded) > _STRIP:
            counts = Counter(mark.vm or (HELD_BY_HOST if mark.in_use else str(mark.verdict)) for mark in marks)
            return text(", ".join(f"{count} × {what}" for what, count in counts.items()))
    else:
        folded = [(mark, 1) for mark in marks]
    return joined((_mark(host, mark, count, picture) for mark, count in folded), " ") if folded else text("none")


def _mark(host: Host, mark: Mark, count: int, picture: HostMap) -> Markup:
    accel = mark.verdict or Accel.UNKNOWN
    letter, _ = picture.letters.get(mark.vm or "", ("", ""))
    sign = letter or (HELD_BY_HOST if mark.in_use else SIGN[accel])
    whose = f", given to {mark.vm}" if mark.vm else ", used by the host" if mark.in_use else ""
    times = f" and {count - 1} more like it" if count > 1 else ""
    title = f"{mark.address} {host.functions[mark.address].name}: {accel.value}{whose}{times}"
    return tag("a", sign + (f"×{count}" if count > 1 else ""), href=f"#{anchor(mark.address)}", class_=accel.value, title=title)


def _band(band: Band, picture: HostMap) -> Markup:
    given = ", ".join(f"{picture.letters[name][0] if name in picture.letters else name} {gib(share)}" for name, share in band.given) or "none"
    left = "not known" if band.left is None else gib(band.left) if band.left >= 0 else f"none: {gib(-band.left)} too much"
    pools = ", ".join(f"{size(pool.page)}: {'?' if pool.free is None else pool.free} of {pool.pages}" for pool in band.pools) or "none"
    memory = "not read" if band.memory is None else gib(band.memory)
    return row(["host" if band.node is None else str(band.node), memory, str(band.cpus or "?"), given, left, pools, str(len(band.smmus))])


def findings(diagnosis: Diagnosis, told: Findings) -> Iterator[Markup]:
    """What stands in the way, by the place where it is mended."""
    for area in diagnosis.areas:
        yield tag("h3", area.area[0].upper() + area.area[1:])
        yield from told.articles(area.findings)
    if not diagnosis.areas:
        yield tag("p", "Nothing stands in the way on this host.")


def functions(host: Host, told: Findings, held: Mapping[str, str]) -> Iterator[Markup]:
    """Every function below its SMMU. ``held``: function -> the VM that it is given to."""
    groups: dict[str | None, list[Function]] = {name: [] for name in (*host.smmus, None)}
    for address in sorted(host.functions, key=lambda one: host.functions[one].address):
        function = host.functions[address]
        groups[function.smmu if function.smmu in host.smmus else None].append(function)
    heads = ("function", "acceleration", "because", "StreamID", "group", "node", "driver", "capabilities, and where they are known from")
    for name, members in groups.items():
        if members:
            yield tag("h3", name or NO_SMMU, class_="mono" if name else None)
            yield table(heads, (_function(host, one, told, held) for one in members), label=f"functions of {name or 'no SMMU'}")


def _function(host: Host, function: Function, told: Findings, held: Mapping[str, str]) -> Markup:
    address = function.facts.address
    streams = ", ".join(f"{stream:#x}" for stream in function.stream_ids) or "–"
    node = "–" if function.numa_node is None else str(function.numa_node)
    group = "–" if function.group is None else str(function.group)
    named = [tag("td", tag("b", address, class_="mono"), tag("br"), f"{function.name} [{function.ids}]")]
    place: list[Content] = [
        tag("td", streams, tag("br"), tag("small", str(function.stream_source.source)), class_="mono"), group, node, function.facts.driver or "none",
    ]  # fmt: skip
    if function.is_bridge:
        return row([*named, tag("td", "bridge", class_="dim"), "", *place, ""], id=anchor(address))
    judged = host.verdict(address)
    reasons: list[Content] = []
    for finding in dict.fromkeys((*judged.reasons, *judged.todo)):
        at = told.places.get((finding.code, finding.subject)) or told.places.get((finding.code, address))
        reasons.append(link(at, finding.code) if at else tag("abbr", finding.code, title=f"{finding.what} {finding.fix}"))
    if address in held:
        reasons.append(tag("b", f"given to {held[address]}"))
    why = joined(reasons, ", ") if reasons else text("every condition is known to hold" if judged.accel is Accel.YES else "–")
    return row([*named, verdict(judged.accel), tag("td", why), *place, tag("td", _capabilities(function.capabilities))], id=anchor(address))


def _capabilities(known: Mapping[str, Known]) -> Markup:
    """Grouped by what they are known from: the same words are not said a dozen times."""
    by_source: dict[str, list[str]] = {}
    for name, value in sorted(known.items()):
        by_source.setdefault("not read" if not value.known else str(value.source), []).append(f"{name} {value.show()}" if value.known else name)
    return joined((joined((tag("small", f"{source}: "), ", ".join(words))) for source, words in by_source.items()), "; ")
