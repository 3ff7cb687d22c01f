"""NFD's NodeFeature objects against its CRD, and feature files that expire as its parser reads them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest
from msgspec.structs import replace

from tests.fleet.hosts import bound, fixture_names
from tests.tools.hosts import FIXTURES, host
from wizard.base.errors import UsageError
from wizard.cli.main import main
from wizard.fleet.consumers import Options, nodefeature
from wizard.fleet.engines import nfd
from wizard.fleet.summary import summary_of
from wizard.host.build import host_of

SCHEMA = json.loads((Path(__file__).parent / "data" / "nfd-nodefeature.schema.json").read_text())
CANWBS = str(FIXTURES / "vfio-arm64-virt-canwbs.json")
Output = pytest.CaptureFixture[str]


def labels_at(text: str, now: datetime) -> dict[str, str]:
    """As parseFeatureFile of NFD 0.19 (source/local/local.go) reads a file: a directive holds until the next, an expired line is skipped."""
    labels, expires = {}, now
    for line in text.splitlines():
        if line.startswith("# +"):
            key, _, value = line[3:].partition("=")
            assert key == "expiry-time", line
            expires = datetime.strptime(value, "%Y-%m-%dT%H:%M:%S%z")
        elif line and not line.startswith("#") and not expires < now:
            name, _, value = line.partition("=")
            labels[name] = value or "true"
    return labels


def test_a_feature_file_ends_when_it_should(capsys: Output) -> None:
    before = datetime.now(UTC)
    assert main(["--replay", CANWBS, "engine", "nfd", "--expires", "12h"]) == 0
    text = capsys.readouterr().out
    whole = {f"{nfd.NAMESPACE}/{name}": value for name, value in nfd.labels(summary_of(host("vfio-arm64-virt-canwbs")))}
    assert labels_at(text, before + timedelta(hours=11, minutes=59)) == whole
    assert labels_at(text, datetime.now(UTC) + timedelta(hours=12, seconds=1)) == {}
    assert main(["--replay", CANWBS, "engine", "nfd"]) == 0
    assert "# +" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nfd", "--expires", "soon"], "--expires soon is no duration"),
        (["nfd", "--expires", "0h"], "is no duration"),
        (["nfd-nodefeature", "--node", "a", "--expires", "1h"], "nfd-nodefeature has no use for --expires"),
        (["opennebula-host", "--node", "a"], "opennebula-host has no use for --node"),
        (["nfd-nodefeature"], "needs --node"),
        (["nfd-nodefeature", "web.toml", "--node", "a"], "takes no profile"),
    ],
)
def test_words_that_a_format_has_no_use_for(words: list[str], says: str, capsys: Output) -> None:
    assert main(["--replay", CANWBS, "engine", *words]) == 2
    done = capsys.readouterr()
    assert done.out == ""
    assert says in done.err


@pytest.mark.parametrize("name", fixture_names())
def test_a_node_feature_is_what_the_crd_takes(name: str) -> None:
    found = json.loads(nodefeature.node_feature(host(name), Options(node="worker-1")).text)
    jsonschema.validate(found, SCHEMA)
    assert found["metadata"]["labels"] == {"nfd.node.kubernetes.io/node-name": "worker-1"}
    assert found["spec"]["labels"] == {f"{nfd.NAMESPACE}/{key}": value for key, value in nfd.labels(summary_of(host(name)))}
    for key, value in found["spec"]["labels"].items():
        assert re.fullmatch(r"[a-z.]+\.node\.kubernetes\.io/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", key)
        assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value)


def test_instances_have_what_is_known_and_nothing_else() -> None:
    found = json.loads(nodefeature.node_feature(host_of(bound("h1", ats=True, ssidsize=20, oas=48)), Options(node="n")).text)
    elements = {e["attributes"]["address"]: e["attributes"] for e in found["spec"]["features"]["instances"]["smmu.function"]["elements"]}
    assert elements["0000:14:00.0"] | {"accel": "yes", "oas": "48", "ats": "true", "ssidsize": "20"} == elements["0000:14:00.0"]
    assert "0000:81:00.0" not in elements  # its group is shared
    unread = replace(bound("h1"), hw_info=(), log=(), log_complete=False)
    output = nodefeature.node_feature(host_of(unread), Options(node="n"))
    for element in json.loads(output.text)["spec"]["features"]["instances"]["smmu.function"]["elements"]:
        assert not {"oas", "ats", "ril", "ssidsize"} & set(element["attributes"])
    assert any("Not known, and so left out or unknown" in remark for remark in output.remarks)
    assert any("does not expire" in remark for remark in output.remarks)


def test_a_node_that_no_label_can_name() -> None:
    for node in ("n" * 64, "Node", "-n", "a..b"):
        with pytest.raises(UsageError, match="can't be the name of a node for NFD"):
            nodefeature.node_feature(host_of(bound("h1")), Options(node=node))
