"""Node Feature Discovery: a feature file for /etc/kubernetes/node-feature-discovery/features.d.

Format: "Feature files" of NFD's customization guide: ``<namespace>/<name>[=<value>]`` a line, comments with ``#``, 64 kB at most. The
namespace is a sub-namespace of ``feature.node.kubernetes.io``, which NFD allows without configuration. Names and values follow
Kubernetes' label syntax: at most 63 characters, alphanumeric at both ends, ``-_.`` between.
"""

from __future__ import annotations

from collections.abc import Iterator

from wizard.base.text import visible
from wizard.fleet.engines.common import tell
from wizard.fleet.summary import HostSummary
from wizard.plan.properties import declared

NAMESPACE = "smmu.feature.node.kubernetes.io"
LIMIT = 64 << 10  # bytes of a feature file; NFD ignores a larger one


def labels(summary: HostSummary) -> Iterator[tuple[str, str]]:
    """Name without the namespace, and value."""
    told = tell(summary)
    yield "accel", told.accel
    if told.smmus is not None:
        yield "count", str(told.smmus)
    for name, value in told.properties.items():
        yield name, ("true" if value else "false") if declared(name).switch else str(value)
    if told.granules:
        yield "granules", "_".join(told.granules)
    for count in told.counts:
        device = f"pci-{count.class_code:04x}_{count.ids.replace(':', '_')}"
        yield f"{device}.count", str(count.total)
        if count.accel is not None:
            yield f"{device}.accel", str(count.accel)
            yield f"{device}.free", str(count.free)


def feature_file(summary: HostSummary, expires: str | None = None) -> str:
    """The file's text; ``ValueError`` when NFD would ignore it for its size.

    ``expires``, a moment in RFC 3339: NFD drops the labels then (source/local/local.go: the directive holds for the lines behind it).
    """
    lines = [
        *((f"# +expiry-time={expires}",) if expires else ()),
        "# Written by smmu-wizard: what this host's SMMUv3s give virtual machines. docs/engines.md explains each label.",
        f"# Kernel {visible(summary.kernel)}",
        *(f"{NAMESPACE}/{name}={value}" for name, value in labels(summary)),
    ]
    text = "\n".join(lines) + "\n"
    if len(text.encode()) > LIMIT:
        raise ValueError(f"the feature file would have {len(text.encode())} bytes, and NFD ignores more than {LIMIT}")
    return text
