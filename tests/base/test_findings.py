"""Findings in proportion: one cause is one row, errors first, else in the order in which the rules are declared."""

from __future__ import annotations

from wizard.base.finding import Finding, Severity, grouped, ordered

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


def of(code: str, subject: str, what: str = "{subject} is wrong.", severity: Severity = WARNING) -> Finding:
    return Finding(code, severity, subject, what.format(subject=subject), "So it is.", f"Mend {subject}.")


def test_one_cause_is_one_row_with_its_subjects() -> None:
    rows = grouped([of("a", f"0000:01:{device:02x}.0") for device in range(32)])
    assert len(rows) == 1
    assert rows[0].finding.subject == "0000:01:00.0"
    assert len(rows[0].subjects) == 32


def test_members_of_one_group_are_one_cause_and_of_two_are_two() -> None:
    def shares(one: str, group: int, *others: str) -> Finding:
        return of("group-shared", one, f"{{subject}} shares IOMMU group {group} with {', '.join(others)}.")

    a, b, c, d = (f"0000:0{bus}:00.0" for bus in range(1, 5))
    rows = grouped([shares(a, 5, b), shares(b, 5, a), shares(c, 6, d), shares(d, 6, c)])
    assert [row.subjects for row in rows] == [(a, b), (c, d)]


def test_two_faults_of_one_function_stay_two() -> None:
    one = "0000:01:00.0"
    rows = grouped([of("taken", one, "{subject} meets 0000:02:00.0."), of("taken", one, "{subject} meets 0000:03:00.0.")])
    assert [row.finding.what for row in rows] == [f"{one} meets 0000:02:00.0.", f"{one} meets 0000:03:00.0."]
    assert len(grouped([of("taken", one), of("taken", one)])) == 1  # the same said twice is said once


def test_errors_come_first_and_else_nothing_moves() -> None:
    said = [of("n", "x", severity=INFO), of("w2", "x"), of("e2", "x", severity=ERROR), of("w1", "x"), of("e1", "x", severity=ERROR)]
    assert [finding.code for finding in ordered(said)] == ["e2", "e1", "w2", "w1", "n"]
    assert [row.finding.code for row in grouped(said)] == ["e2", "e1", "w2", "w1", "n"]


def test_a_warning_does_not_hide_among_errors_of_its_code() -> None:
    rows = grouped([of("a", "x"), of("a", "y", severity=ERROR)])
    assert [(row.finding.severity, row.subjects) for row in rows] == [(ERROR, ("y",)), (WARNING, ("x",))]
