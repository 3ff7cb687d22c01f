"""What ``import wizard.smmu`` costs, and the pytest plugin where it is not used: whole processes against a bare Python, in one run.

    python -m benchmarks.smmu_import [--runs 9]

CPU is user and system time of the process. "pytest" is a session with one empty test, with this program's plugin and without (``-p no:``).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.list import compare, show


def main() -> None:
    """Run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    python = [sys.executable, "-c"]
    imports = {
        "python": [*python, "pass"],
        "import msgspec": [*python, "import msgspec"],
        "import wizard.smmu": [*python, "import wizard.smmu"],
        "import wizard.smmu.machine": [*python, "import wizard.smmu.machine"],
        "import wizard.smmu.arrays": [*python, "import wizard.smmu.arrays"],
    }
    show("imports", compare(imports, arguments.runs))
    with tempfile.TemporaryDirectory() as directory:
        test = Path(directory) / "test_empty.py"
        test.write_text("def test_nothing():\n    pass\n")
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", directory, "-c", "/dev/null", str(test)]
        sessions = {"without the plugin": [*pytest, "-p", "no:smmu_wizard"], "with it, unused": pytest}
        show("pytest", compare(sessions, arguments.runs))


if __name__ == "__main__":
    main()
