"""What a preparation script says of the words that its steps meet: by bash alone, and as ``explain`` says it."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from tests.tools.cache import PROJECT
from tests.tools.processes import LIMIT
from wizard.explain.short import short

WORDS = PROJECT / "wizard/export/prepare_words.sh"

# Real lines: of the kernel (drivers/vfio, drivers/pci; 6.1 to 7.3), of kmod.
LINES = (
    "[  812.5] vfio-pci 0000:11:00.0: Cannot bind to PF with SR-IOV enabled",
    "vfio-pci: probe of 0000:01:00.0 failed with error -22",
    "[   90.2] vfio-pci 0000:11:00.0: probe with driver vfio-pci failed with error -16",
    "[ 4012.001] vfio-pci 0000:14:00.0: Relaying device request to user (#0)",
    "[    9.1] igb 0000:11:00.0: not enough MMIO resources for SR-IOV",
    "modprobe: FATAL: Module iommufd not found in directory /lib/modules/6.12.0-arm64",
    "modprobe: ERROR: could not insert 'vfio_pci': Key was rejected by service",
)


def meanings(lines: tuple[str, ...]) -> list[str]:
    """What the script's function says of each."""
    calls = "\n".join(f"meaning {shlex.quote(line)}; printf '\\0'" for line in lines)
    done = subprocess.run(["bash", "-c", f". {WORDS}\n{calls}"], capture_output=True, text=True, check=True, timeout=LIMIT)
    return done.stdout.split("\0")[:-1]


def test_the_script_says_what_explain_says() -> None:
    for line, told in zip(LINES, meanings(LINES), strict=True):
        known = short(line + "\n")
        assert known is not None, line
        said = told.splitlines()
        assert said[0] == f"    means: {known.means}"
        assert said[1] == f"    may be: {known.reasons[0].because}"
        assert said[2].partition("`")[0] == f"      fix: {known.reasons[0].fix}".partition("`")[0]


def test_what_bash_says_of_a_real_write_that_fails_is_known() -> None:
    wrote = subprocess.run(
        ["bash", "-c", "printf 'x\\n' > /dev/full"], capture_output=True, text=True, check=False, timeout=LIMIT, env={"LC_ALL": "C"}
    )
    [told] = meanings((wrote.stderr.strip(),))
    assert "There are not so many VFs, or no room for them." in told


@pytest.mark.parametrize("line", ["[  1.0] systemd[1]: Started Session 4.", "igb 0000:11:00.0: added PHC on eth0", ""])
def test_other_lines_are_not_explained(line: str) -> None:
    assert meanings((line,)) == [""]
