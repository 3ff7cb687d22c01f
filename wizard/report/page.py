"""The page: head with its policy, a summary, contents and sections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from wizard import __version__
from wizard.base.finding import Severity
from wizard.base.text import plural
from wizard.dryrun.model import Report
from wizard.host.describe import product_text
from wizard.host.doctor import diagnose
from wizard.host.model import Accel, Host
from wizard.picture.hostmap import host_map
from wizard.picture.topology import topology
from wizard.picture.toposvg import svg
from wizard.plan.model import Plan
from wizard.report import host as of_host
from wizard.report import vms as of_vms
from wizard.report.html import Content, Markup, joined, link, row, table, tag, text
from wizard.report.style import HASH, STYLE
from wizard.report.words import SEVERITY_SIGN, SEVERITY_WORD, Clean, Findings, verdict

POLICY = f"default-src 'none'; style-src '{HASH}'; base-uri 'none'; form-action 'none'"
"""Nothing is loaded, run or sent, from here or elsewhere; one style sheet is applied, by its hash (CSP 3)."""


def page(host: Host, plan: Plan | None = None, report: Report | None = None, *, redacted: Sequence[str] | None = (), clean: Clean = str) -> str:
    """The whole page.

    ``redacted`` is what was replaced in the host's facts, None where nothing was to be; ``clean`` does the same to the VMs' texts.
    """
    picture = host_map(host, plan.vms if plan else ())
    diagnosis = diagnose(host)
    held = {device.host: vm.name for vm in plan.vms for device in vm.devices} if plan else {}
    told = Findings(host.functions, clean)
    # The functions' rows lead to the findings: those come first.
    on_host = list(of_host.findings(diagnosis, told))
    sections: list[tuple[str, str, Iterable[Content]]] = [
        ("map", "Host map", of_host.host_map(host, picture)),
        ("findings", "Findings on the host", on_host),
    ]
    if plan is not None:
        sections += [("vms", "VMs", list(of_vms.vms(host, plan, told, clean))), ("topology", "Topology", [_drawing(svg(topology(host, plan)))])]
    if report is not None:
        sections.append(("dry-run", "Dry run on a simulated SMMUv3", of_vms.dry_run(report)))
        if report.proofs:
            sections.append(("isolation", "Isolation", of_vms.isolation(report.proofs)))
        if report.costs:
            sections.append(("cost", "Cost", of_vms.cost(report.costs)))
    sections.append(("functions", "Functions", of_host.functions(host, told, held)))
    if host.facts.assumptions:
        sections.append(("assumed", "Assumed", _assumed(host)))
    title = f"{product_text(host)}: acceleration and VMs" if plan else f"{product_text(host)}: acceleration"
    body = tag(
        "body",
        tag("header", tag("h1", title), of_vms.properties(of_host.identity(host)), _summary(host, plan, report, diagnosis.areas)),
        tag("nav", *(link(place, name) for place, name, _ in sections), aria_label="contents"),
        tag("main", *(tag("section", tag("h2", name), *content, id=place) for place, name, content in sections)),
        tag("footer", tag("p", f"Written by smmu-wizard {__version__}. {_redaction(redacted)}", class_="dim")),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="referrer", content="no-referrer"),
        tag("title", title),
        Markup(f"<style>{STYLE}</style>"),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _drawing(drawn: str) -> Markup:
    """The SVG of the topology, which escapes what it draws as this page does."""
    return tag("div", Markup(drawn), class_="drawing", tabindex="0", role="region", aria_label="topology")


def _summary(host: Host, plan: Plan | None, report: Report | None, areas: Iterable[object]) -> Markup:
    counts = Counter(host.verdict(address).accel for address, function in host.functions.items() if not function.is_bridge)
    parts = [tag("div", "endpoints: ", joined((joined((tag("b", str(counts[accel])), " ", verdict(accel))) for accel in Accel), ", "))]
    found = Counter(item.finding.severity for area in areas for item in area.findings)  # type: ignore[attr-defined]
    parts.append(tag("div", "findings on the host: ", _counted(found)))
    if plan is not None:
        parts.append(tag("div", f"{plural(len(plan.vms), 'VM')}: ", _counted(Counter(finding.severity for finding in plan.findings))))
    if report is not None and report.rehearsed:
        proved = all(proof.proved for proof in report.proofs)
        failed = sum(True for _ in report.failures())
        if report.functions:
            parts.append(tag("div", "dry run: ", tag("span", f"{failed} failed" if failed else "nothing fails", class_="bad" if failed else "good")))
        if report.proofs:
            parts.append(tag("div", "isolation: ", tag("span", "proved" if proved else "not proved", class_="good" if proved else "bad")))
    return tag("div", *parts, class_="sum")


def _counted(found: Counter[Severity]) -> Markup:
    words = [
        tag("span", f"{SEVERITY_SIGN[severity]} {plural(found[severity], SEVERITY_WORD[severity])}", class_=severity)
        for severity in Severity
        if found[severity]
    ]
    return joined(words, ", ") if words else text("none")


def _assumed(host: Host) -> list[Markup]:
    words = "Nobody measured or published these values. No yes rests on them."
    rows = (row([tag("td", assumption.path, class_="mono"), assumption.why]) for assumption in host.facts.assumptions)
    return [tag("p", words), table(("place in the snapshot", "why it stands there"), rows, label="assumed values")]


def _redaction(redacted: Sequence[str] | None) -> str:
    if redacted is None:
        return "Nothing is redacted in it: serial numbers, addresses and names are as they were read."
    return "Redacted: serial numbers, MAC and IP addresses, UUIDs, and names of the host, its users and volumes. Names of the VMs stay." + (
        f" Replaced: {', '.join(redacted)}." if redacted else ""
    )
