"""The recorder in a container: its image is built and run by buildah of Debian, its DaemonSet held against Kubernetes' own schema."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests.tools.cache import PROJECT, cache, skip_loudly
from tests.tools.processes import LIMIT

PARTS = PROJECT / "packaging/recorder"
SCHEMA = json.loads((Path(__file__).parent / "data/kubernetes-daemonset.schema.json").read_text(encoding="utf-8"))


def _manifest() -> Any:
    return yaml.safe_load((PARTS / "daemonset.yaml").read_text(encoding="utf-8"))


def test_the_daemon_set_is_what_kubernetes_takes() -> None:
    """Of a trimmed schema that refuses every part that it does not know: a word that is wrong is refused too."""
    judge = jsonschema.Draft202012Validator(SCHEMA)
    assert [error.message for error in judge.iter_errors(_manifest())] == []
    wrong = _manifest()
    wrong["spec"]["template"]["spec"]["initContainers"][0]["securityContext"]["readonlyRootFilesystem"] = True
    assert list(judge.iter_errors(wrong))


def test_a_pod_has_no_more_than_it_needs() -> None:
    pod = _manifest()["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"}
    for container in (*pod["initContainers"], *pod["containers"]):
        rights = container["securityContext"]
        assert (rights["allowPrivilegeEscalation"], rights["readOnlyRootFilesystem"], rights["capabilities"]["drop"]) == (False, True, ["ALL"])
        mounts = container.get("volumeMounts", [])
        assert [mount["mountPath"] for mount in mounts if not mount.get("readOnly")] == (["/out"] if mounts else [])
    recorder = pod["initContainers"][0]
    assert recorder["securityContext"]["capabilities"]["add"] == ["SYS_ADMIN"]
    places = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"]}
    assert all(mount["mountPath"] == f"/host{places[mount['name']]}" for mount in recorder["volumeMounts"] if mount["name"] != "out")


def test_the_image_is_built_and_records(tmp_path: Path) -> None:
    """A base of Debian's own packages (no registry is asked), run with the mounts that the head of Containerfile names, in a chroot of its own."""
    containers, python = cache() / "containers", cache() / "python"
    if os.geteuid() != 0 or not (containers / "version").exists() or not (python / "version").exists():
        skip_loudly("no image of the recorder is built", "as root: scripts/debian-tools --with containers --with python")
    subprocess.run(
        [sys.executable, PROJECT / "scripts/recorder", "-o", tmp_path / "smmu-wizard-record"], check=True, capture_output=True, timeout=LIMIT
    )
    (tmp_path / "Containerfile").write_bytes((PARTS / "Containerfile").read_bytes())
    words: list[str | Path] = ["unshare", "-m", "bash", PROJECT / "tests/tools/recorder-image.sh", containers, python, tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    snapshot = json.loads((tmp_path / "host.json").read_text(encoding="utf-8"))
    direct = subprocess.run(
        [sys.executable, "-m", "wizard", "record", "--root", "/"], capture_output=True, text=True, check=True, cwd=PROJECT, timeout=LIMIT
    )
    expected = json.loads(direct.stdout)
    assert snapshot["functions"]
    for name in ("functions", "iommus", "groups", "acpi", "nodes", "cpus", "cpu_model", "memory_total", "iommufd", "kvm"):
        assert _unnamed(snapshot[name]) == _unnamed(expected[name]), name
    assert snapshot["kernel"]["release"] == expected["kernel"]["release"]
    assert re.fullmatch(r"host-[0-9a-f]{16}", snapshot["identity"]["host"]) if Path("/etc/machine-id").exists() else True


def _unnamed(value: Any) -> Any:
    # Names of PCI ids are those of the machine that reads, and the image has no pci.ids.
    if isinstance(value, list):
        return [_unnamed(one) for one in value]
    return {key: one for key, one in value.items() if not key.endswith("_name")} if isinstance(value, dict) else value
