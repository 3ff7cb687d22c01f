"""One way to open a host: the same file gives the same answer whoever opens it, and no policy is left aside."""

from __future__ import annotations

import gzip
import io
import lzma
import sys
from pathlib import Path

import pytest

from wizard.base.errors import InputError
from wizard.cli.main import main
from wizard.facts.snapshot import encode, load
from wizard.facts.source import LIVE, SUFFIXES, Source, SourceKind, load_recording, read_facts, recorded
from wizard.facts.umockdev import to_umockdev
from wizard.fleet.gather import find, gather
from wizard.host.model import Accel
from wizard.host.opening import open_host

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures/arm64-virt-canwbs.json"
NVME = "0000:14:00.0"
POLICY = '[[rule]]\nsubject = "0000:14:00.0"\naccel = "off"\nreason = "ticket 4711"\n'


@pytest.fixture
def policy(tmp_path: Path) -> str:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return str(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_opens_as_the_plain_file_does(suffix: str, tmp_path: Path) -> None:
    facts = load(str(FIXTURE))
    text = to_umockdev(facts).encode() if ".umockdev" in suffix else encode(facts)
    pack = gzip.compress if suffix.endswith(".gz") else lzma.compress if suffix.endswith(".xz") else bytes
    path = tmp_path / f"host{suffix}"
    path.write_bytes(pack(text))
    assert {one.address for one in load_recording(str(path)).functions} == {one.address for one in facts.functions}
    assert find([str(tmp_path)]) == [str(path)]
    assert [entry.problem for entry in gather([str(path)], read=None).entries] == [""]


def test_a_recording_is_known_by_its_content_not_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe has no suffix, and neither has a file that somebody renamed."""
    text = to_umockdev(load(str(FIXTURE))).encode()
    path = tmp_path / "from-the-customer.txt"
    path.write_bytes(b"\n" + text)
    assert load_recording(str(path)).origin == "umockdev"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert load_recording("-").origin == "umockdev"


def test_what_is_no_recording_is_an_error_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.umockdev"
    path.write_text("bring milk\n")
    with pytest.raises(InputError, match=r"notes\.umockdev"):
        load_recording(str(path))


def test_a_directory_is_a_tree(tmp_path: Path) -> None:
    assert recorded(str(tmp_path)) == Source(SourceKind.ROOT, str(tmp_path))
    assert recorded(str(FIXTURE)) == Source(SourceKind.REPLAY, str(FIXTURE))


def test_the_words_of_a_source_name_it_again() -> None:
    assert LIVE.words == ()
    assert Source(SourceKind.DEMO).words == ("--demo",)
    assert Source(SourceKind.REPLAY, "a b.json").words == ("--replay", "a b.json")


def test_the_policy_decides_whatever_the_source(policy: str) -> None:
    for source in (Source(SourceKind.DEMO), Source(SourceKind.REPLAY, str(FIXTURE))):
        assert open_host(source).verdicts[NVME].accel is not Accel.NO
        assert open_host(source, policy).verdicts[NVME].accel is Accel.NO
    assert read_facts(Source(SourceKind.DEMO), policy).policy[0].reason == "ticket 4711"


def test_diff_judges_both_hosts_under_the_policy(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(FIXTURE), str(FIXTURE), "--policy", policy]) == 0
    assert main(["--policy", "/nonexistent/policy.toml", "diff", str(FIXTURE), str(FIXTURE)]) == 3
    assert "The policy /nonexistent/policy.toml can't be read" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--policy", "x"], ["--replay", "x"], ["--root", "x"]], ids=" ".join)
def test_an_option_that_would_be_left_aside_is_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*option, "baseline", str(FIXTURE)]) == 2
    assert f"baseline has no use for {option[0]}" in capsys.readouterr().err
