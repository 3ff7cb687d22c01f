"""Node Feature Discovery: the labels of its feature file as a NodeFeature object, with every function as an instance for NodeFeatureRules.

nfd.k8s-sigs.io/v1alpha1 as of NFD 0.19 (deployment/base/nfd-crds/nfd-api-crds.yaml). nfd-master takes an object by its label
``nfd.node.kubernetes.io/node-name`` (pkg/nfd-master/nfd-api-controller.go), so that it may come from anywhere: from a snapshot too.
"""

from __future__ import annotations

import json
import re

from wizard.base.errors import OutputError, UsageError
from wizard.base.text import visible
from wizard.fleet.consumers.common import Options, Output, measured, needed, offered, told
from wizard.fleet.engines import common, nfd
from wizard.fleet.rows import Row
from wizard.fleet.summary import summary_of
from wizard.host.model import Host

API = "nfd.k8s-sigs.io/v1alpha1"
NODE_LABEL = "nfd.node.kubernetes.io/node-name"
FEATURE = "smmu.function"
LABEL = 63  # characters of a label's value
LIMIT = 1 << 20  # bytes of an object; etcd takes requests of 1.5 MiB

_NODE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def feature_file(host: Host, options: Options) -> Output:
    """NFD's feature file whose labels end at a moment: NFD drops them, unless the file was written again."""
    summary = summary_of(host)
    try:
        text = nfd.feature_file(summary, options.expires)
    except ValueError as error:
        raise OutputError(f"{error}.".capitalize(), "Send us the snapshot: no host should have so many kinds of devices.") from error
    return Output(text, tuple(common.remarks(summary)))


def node_feature(host: Host, options: Options) -> Output:
    """One NodeFeature object."""
    node = needed(options.node, "--node", "nfd-nodefeature", "the node's name in Kubernetes")
    if len(node) > LABEL or not _NODE.fullmatch(node):
        raise UsageError(
            f"{visible(node)} can't be the name of a node for NFD.",
            f"NFD finds the node by a label, whose value has at most {LABEL} characters: a-z, 0-9, - and dots, a letter or digit at both ends.",
        )
    summary, found = summary_of(host), offered(host)
    value = {
        "apiVersion": API,
        "kind": "NodeFeature",
        "metadata": {"name": f"{node}-smmu", "labels": {NODE_LABEL: node}},
        "spec": {
            "labels": {f"{nfd.NAMESPACE}/{name}": content for name, content in nfd.labels(summary)},
            "features": {"instances": {FEATURE: {"elements": [{"attributes": _attributes(row)} for row in found.rows]}}},
        },
    }
    text = json.dumps(value, indent=2) + "\n"
    if len(text.encode()) > LIMIT:
        raise UsageError(
            f"The NodeFeature would have {len(text.encode())} bytes, and Kubernetes keeps no object above {LIMIT}.", "Use the format nfd."
        )
    said = (
        "A NodeFeature does not expire: it holds until it is written again or deleted. The format nfd takes --expires.",
        "Labels count every function; the instances are those that may be given away.",
    )
    return Output(text, (*said, *found.remarks, *common.remarks(summary)))


def _attributes(row: Row) -> dict[str, str]:
    """Everything as text: what is not known has no attribute."""
    plain = {name: getattr(row, name) for name in ("vendor", "device", "pf", "iommu_group", "granules", "vf")}
    plain |= {name: told(row, name, field) for name, field in (("driver", "driver"), ("numa_node", "numa_node"), ("pcie_root", "path"))}
    known = {
        name: measured(row, name) for name in ("smmu", "oas", "ssidsize", "ats", "ril", "cmdqv", "canwbs", "flr", "function_ats", "function_pasid")
    }
    found = {"address": row.function, "class": row.class_, "accel": row.accel.value} | plain | known
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in found.items() if value is not None}
