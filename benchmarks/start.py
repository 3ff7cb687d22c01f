"""What a command costs before it does anything: whole processes against a bare Python, of a wheel that was built and installed for it.

    python -m benchmarks.start [--runs 25] [--checkout]

Goals: ``--version`` 1.3, ``--help`` 3 and ``--demo list`` 7 times ``python -c pass`` by the same interpreter. The wheel goes into an
environment of its own in a temporary folder, compiled, as pip leaves it; what it depends on comes out of the environment that this runs in.
The script of an older pip (23.2, say) begins with ``import re``, which alone is half a Python: the benchmark writes the script as pip 26.3
does. All of them run in turn; shown are the best and the middle of the runs, of wall clock and of processor time (user and system).
"""

from __future__ import annotations

import argparse
import resource
import site
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.list import ROOT

GOALS = {"--version": 1.3, "--help": 3.0, "--demo list": 7.0}
"""Times a bare Python."""

SCRIPT = """import sys
from wizard.cli.main import entry
if __name__ == '__main__':
    sys.argv[0] = sys.argv[0].removesuffix('.exe')
    sys.exit(entry())
"""
"""As pip 26.3 writes it for an entry point."""

PROFILE = """version = 1
name = "web"
memory = "4G"

[[function]]
host = "0000:14:00.0"
"""
MESSAGE = "[iommufd=24] error attach 0000:81:00.0 (26) to id=9: Invalid argument"


def installed(folder: Path) -> list[str]:
    """The command of a wheel of this checkout, installed in ``folder``."""
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "wheel")], cwd=ROOT, **quiet)  # type: ignore[call-overload]
    home = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], **quiet)  # type: ignore[call-overload]
    python = home / "bin" / "python"
    [wheel] = (folder / "wheel").glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], **quiet)  # type: ignore[call-overload]
    [packages] = home.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    script = home / "bin" / "smmu-wizard"
    script.write_text(f"#!{python}\n{SCRIPT}")
    return [str(python), str(script)]


def once(words: list[str], cwd: Path) -> tuple[float, float]:
    """(wall clock, processor time) of a process, in ms; getrusage counts microseconds where times(2) counts hundredths."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall * 1000, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def main() -> None:
    """Install, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=25)
    parser.add_argument("--checkout", action="store_true", help="python -m wizard of this checkout, nothing is built")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="smmu-wizard-") as name:
        folder = Path(name)
        ours = [sys.executable, "-m", "wizard"] if arguments.checkout else installed(folder)
        profile = folder / "web.toml"
        profile.write_text(PROFILE)
        commands = {
            "python -c pass": [ours[0], "-c", "pass"],
            "import msgspec": [ours[0], "-c", "import msgspec"],
            "--version": [*ours, "--version"],
            "--help": [*ours, "--help"],
            "list --help": [*ours, "list", "--help"],
            "--demo list": [*ours, "--demo", "list"],
            "--demo show FUNCTION": [*ours, "--demo", "show", "0000:14:00.0"],
            "--demo doctor": [*ours, "--demo", "doctor"],
            "--demo check PROFILE": [*ours, "--demo", "check", str(profile)],
            "explain MESSAGE": [*ours, "explain", MESSAGE],
        }
        taken: dict[str, list[tuple[float, float]]] = {one: [] for one in commands}
        for turn in range(arguments.runs + 1):
            for one, words in commands.items():
                found = once(words, ROOT if arguments.checkout else folder)
                taken[one] += [found] if turn else []
    print(f"best and middle of {arguments.runs} runs          wall            processor   times a bare Python's (goal)")
    bare: list[float] = []
    for one, runs in taken.items():
        wall, cpu = ([sorted(each)[0], sorted(each)[len(each) // 2]] for each in zip(*runs, strict=True))
        bare = bare or cpu
        goal = f" ({GOALS[one]:g})" if one in GOALS else ""
        print(f"  {one:24} {wall[0]:7.1f} {wall[1]:7.1f}   {cpu[0]:7.1f} {cpu[1]:7.1f} ms   {cpu[0] / bare[0]:5.2f} {cpu[1] / bare[1]:5.2f}{goal}")


if __name__ == "__main__":
    main()
