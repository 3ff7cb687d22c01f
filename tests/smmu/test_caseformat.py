"""The case format: what is wrong with a case is said, in bounded time, and nothing else happens."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from wizard.base.errors import InputError
from wizard.base.exits import Exit
from wizard.cli.parser import parse
from wizard.cli.translate import run
from wizard.smmu.cases import run_plain

BYPASS: dict[str, Any] = {
    "strtab_base": "0x40100000",
    "strtab_base_cfg": 8,
    "mem": {"0x40100200": ["0x9", "0x100000000000"]},
    "sid": 8,
    "iova": "0x50000000",
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"iova": "0xzz"}, "'0xzz' is no number"),
        ({"iova": -1}, "-1 is negative"),
        ({"iova": 1 << 64}, "does not fit 64 bits"),
        ({"iova": True}, "`bool`"),
        ({"iova": 1.5}, "`float`"),
        ({"sid": 1 << 16}, "does not fit IDR1.SIDSIZE, 16 bits"),
        ({"access": "x"}, "Invalid enum value 'x'"),
        ({"stage": "3"}, "Invalid enum value '3'"),
        ({"mem": {"0x40100201": ["0x0"]}}, "not the address of a 64-bit word"),
        ({"mem": {"0x40100200": ["0x1ffffffffffffffff"]}}, "does not fit 64 bits"),
        ({"mem": {"0xfffffffffffffff8": [0, 0]}}, "past the end of the address space"),
        ({"mem": {"0x40100200": [None]}}, "$.mem[...][0]"),
        ({"steps": []}, "both steps and a DMA"),
        ({"mem": {"0x40100200": [9, 0], "0x40100208": [0]}}, "also given by mem['0x40100200']"),
        ({"iova": "1_0"}, "'1_0' is no number"),
        ({"iova": "\u0661"}, "is no number"),
        ({"iova": " 1"}, "' 1' is no number"),
        ({"iova": ""}, "'' is no number"),
        ({"colour": "red"}, "unknown field `colour`"),
        ({"ids": {"idr0": "0x0", "idr5": 0}}, "without any stage or granule"),
        ({"ssid": "0x100000"}, "does not fit 20 bits"),
        ({"iova": "9" * 100}, "length"),
    ],
)
def test_wrong_case_says_what_and_where(change: dict[str, Any], said: str) -> None:
    answer = run_plain({**BYPASS, **change})
    assert list(answer) == ["error"]
    assert said in answer["error"]


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([{"dma": {"sid": 8, "iova": 0}, "mem": {}}], "steps[0]: not one of"),
        ([{"reg": {"NOPE": 1}}], "no register 'NOPE'"),
        ([{"cmd": [["0x46"]]}], "length 2"),
        ([{"read": ["NOPE"]}], "steps[0].read[0]: no register 'NOPE', and no address"),
        ([{"read": ["0x4"]}], "not the address of a 64-bit word"),
        # Queues whose indices are far apart: one is worked off whole, a thousand are not.
        ([{"reg": {"CMDQ_BASE": 0x4800_0013, "CMDQ_PROD": index & 1 and 0x7_FFFF}} for index in range(1000)], "more than 262144 commands"),
        ([{"reg": {"EVENTQ_BASE": 0x4800_0013, "EVENTQ_PROD": 0x7_FFFF}}, {"events": True}], "more than 262144 records"),
    ],
)
def test_wrong_steps_say_what_and_where(steps: list[dict[str, Any]], said: str) -> None:
    answer = run_plain({"mem": {"0x48000000": [0x46, 0] * 0x4_0000}, "steps": steps})
    assert list(answer) == ["error"]
    assert said in answer["error"]


def test_pointer_loops_end() -> None:
    """Every level of a table pointing at the same table: the walk has as many levels as it has."""
    loop = {"0x40200000": ["0x40200003"] * 512}
    entry = {"0x40100200": ["0x4018000b", "0x0"]}
    context = {"0x40180000": [f"{0x12E2_04F5_9035_10:#x}", "0x40200000", "0x0", "0xff"]}
    case = {**BYPASS, "mem": {**loop, **entry, **context}, "iova": "0x1234"}
    assert run_plain(case)["fault"]["name"] in ("F_ACCESS", "F_PERMISSION", "F_TRANSLATION")


def test_deep_nesting_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text('{"expect":' + "[" * 200_000 + "]" * 200_000 + "}")
    with pytest.raises(InputError, match="nested deeper"):
        run(str(path), None, io.StringIO())


def test_file_of_cases_answers_a_line_each(tmp_path: Path) -> None:
    path, out = tmp_path / "cases.json", io.StringIO()
    path.write_text(json.dumps([BYPASS, {"sid": "x"}, BYPASS]))
    assert run(str(path), None, out) == Exit.INPUT
    answers = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [answer.get("pa") for answer in answers] == ["0x50000000", None, "0x50000000"]
    assert "error" in answers[1]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"3", b'"case"'])
def test_file_without_a_case_is_an_input_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.json holds no case"):
        run(str(path), None, io.StringIO())


def test_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        run(str(tmp_path / "none.json"), None, io.StringIO())


def test_standard_input_is_answered_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [json.dumps(BYPASS), "", "not json", json.dumps({**BYPASS, "sid": 9})]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    out = io.StringIO()
    assert run("-", "json", out) == Exit.INPUT
    first, second, third = (json.loads(line) for line in out.getvalue().splitlines())
    assert first["ok"] is True
    assert [step["what"] for step in first["trace"]] == ["ste", "done"]
    assert "error" in second
    assert third["fault"]["name"] == "C_BAD_STE"


def test_trace_as_text_names_each_word_read(tmp_path: Path) -> None:
    cases = json.loads((Path(__file__).parents[2] / "fixtures/translation/cases.json").read_text())
    path, out = tmp_path / "case.json", io.StringIO()
    path.write_text(json.dumps(next(case for case in cases if case["name"] == "nested_fault_s2_out")))
    assert run(str(path), "text", out) == Exit.OK
    *told, answer = out.getvalue().splitlines()
    assert told[0] == "# nested_fault_s2_out"
    assert all(line.startswith("# ") for line in told)
    assert sum(" level " in line for line in told) > 12
    assert "F_TRANSLATION" in told[-1]
    assert json.loads(answer)["fault"]["addr2"] == "0x2345678000"


@pytest.mark.parametrize(
    ("words", "trace"),
    [
        (["CASE"], None),
        (["--trace", "CASE"], "text"),
        (["CASE", "--trace"], "text"),
        (["--trace", "json", "CASE"], "json"),
        (["--trace=json", "CASE"], "json"),
        (["--trace", "-"], "text"),
    ],
)
def test_trace_takes_a_format_and_no_case(words: list[str], trace: str | None) -> None:
    arguments = parse(["translate", *words])
    assert (arguments.case, arguments.trace) == ("-" if "-" in words else "CASE", trace)


@pytest.mark.parametrize("words", [["--trace=xml", "CASE"], [], ["--trace"]])
def test_wrong_words_are_wrong_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(["translate", *words])
    assert stop.value.code == Exit.USAGE


@pytest.mark.parametrize(
    ("cr0", "steps"),
    [
        ("0x9", []),
        ("0xd", [{"reg": {"EVENTQ_BASE": "0x1000000000"}}]),
        ("0xd", [{"reg": {"EVENTQ_BASE": "0x48000000"}}, {"dma": {"sid": 9, "iova": 0}}]),
    ],
    ids=["off", "nothing answers", "full"],
)
def test_a_record_that_reached_no_queue_was_not_recorded(cr0: str, steps: list[dict[str, Any]]) -> None:
    case = {key: content for key, content in BYPASS.items() if key not in ("sid", "iova")}
    answers = run_plain({**case, "cr0": cr0, "steps": [*steps, {"dma": {"sid": 9, "iova": 0}}]})["steps"]
    assert answers[-1] == {"fault": None}


def test_registers_and_memory_can_be_read() -> None:
    """An illegal command in memory: CONS stays at it with CERROR_ILL, and GERROR tells of it until it is acknowledged (7.1)."""
    steps = [
        {"mem": {"0x48000000": ["0x46", 0, "0xff", 0, "0x46", 0]}},
        {"reg": {"CMDQ_BASE": "0x48000002", "CMDQ_PROD": 3}},
        {"read": ["CMDQ_CONS", "smmu_gerror", "0x48000010", "0x1000"]},
        {"mem": {"0x48000010": ["0x46"]}},
        {"reg": {"GERRORN": 1}},
        {"read": ["CMDQ_CONS", "GERROR"]},
    ]
    first, second = run_plain({"steps": steps})["steps"]
    assert first == {"values": {"CMDQ_CONS": "0x1000001", "smmu_gerror": "0x1", "0x48000010": "0xff", "0x1000": None}}
    assert int(second["values"]["CMDQ_CONS"], 0) & 0xFFFFF == 3
    assert second["values"]["GERROR"] == "0x1"
