"""Compile the walk:    python -m wizard.smmu.compile [-o FOLDER]    with Cython, a C compiler and Python's headers

Out of ``trails.py`` and the types of ``trails.pxd`` comes one module, for this Python alone, beside them or in FOLDER, which SMMU_WIZARD_COMPILED
then has to name. From the next start on it is used (``wizard.smmu.form.FORM`` says so), until ``trails.py`` changes or the file is taken away.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

from wizard.smmu.form import HERE, NAME, SOURCE, VARIABLE, digest, file_in

MISSING, NOT_WRITTEN = 4, 5


class CompileError(Exception):
    """Why there is no compiled form: a sentence, and one with the next step."""

    def __init__(self, what: str, fix: str, status: int = MISSING) -> None:
        super().__init__(f"{what} {fix}")
        self.status = status


def compile_into(folder: Path) -> Path:
    """Compile; answers the file. ``CompileError`` where a tool is missing or the file can't be written."""
    if find_spec("Cython") is None:
        raise CompileError("Cython is not there.", f"Install it: {sys.executable} -m pip install cython")
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        raise CompileError(f"There is no {compiler[0]}.", "Install a C compiler (gcc or clang), or name one by CC.")
    include = sysconfig.get_path("include")
    if not os.path.exists(os.path.join(include, "Python.h")):
        raise CompileError("Python's headers are not there.", "Install them: python3-dev on Debian, python3-devel on Fedora.")
    target = Path(file_in(str(folder)))
    with tempfile.TemporaryDirectory() as scratch:
        text = Path(SOURCE).read_text(encoding="utf-8") + f'\nSOURCE = "{digest()}"\n'
        made = Path(scratch, NAME)
        made.with_suffix(".py").write_text(text, encoding="utf-8")
        made.with_suffix(".pxd").write_bytes(Path(HERE, "trails.pxd").read_bytes())
        # Annotations are those of Python: what C may know of a name is in the .pxd.
        words = ["-3", "-X", "annotation_typing=False", "--module-name", NAME, f"{NAME}.py"]
        _run([sys.executable, "-m", "cython", *words], scratch, "Cython")
        _run([*compiler, "-O2", "-DNDEBUG", "-shared", "-fPIC", "-I", include, f"{NAME}.c", "-o", target.name], scratch, compiler[0])
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fresh = target.with_name(f".{target.name}.{os.getpid()}")
            fresh.write_bytes(Path(scratch, target.name).read_bytes())
            fresh.chmod(0o755)
            fresh.replace(target)
        except OSError as error:
            raise CompileError(f"{target} can't be written: {error.strerror}.", "Name another folder with -o.", NOT_WRITTEN) from None
    return target


def _run(command: list[str], folder: str, name: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise CompileError(f"{name} ended with status {done.returncode}: {' '.join(last)}.", "Without it the walk stays in Python.")


def main() -> int:
    """Compile, and say where."""
    parser = argparse.ArgumentParser(prog="python -m wizard.smmu.compile", description="compile the walk of the simulated SMMU, for this Python")
    parser.add_argument("-o", dest="folder", type=Path, default=Path(HERE), metavar="FOLDER", help="where to; default: beside its source")
    arguments = parser.parse_args()
    try:
        path = compile_into(arguments.folder)
    except CompileError as error:
        print(error, file=sys.stderr)
        return error.status
    if arguments.folder != Path(HERE):
        print(f"To use it: {VARIABLE}={shlex.quote(str(arguments.folder))}", file=sys.stderr)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
