"""``wizard.smmu`` as a library: what is public stays, its page says what it does, and nothing else comes with it."""

from __future__ import annotations

import enum
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools import golden
from tests.tools.processes import LIMIT
from wizard.arch.bits import Record

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/smmu-library.md"
PUBLIC = ["wizard.smmu"] + [f"wizard.smmu.{name}" for name in ("machine", "shared", "state", "tables", "arrays", "behaviours", "coverage", "client")]
ALONE = [name for name in PUBLIC if name != "wizard.smmu.arrays"]


def lines(module: str) -> Iterator[str]:
    """Every public name of a module with all that one can rely on of it: signatures, fields, members, constants."""
    # An array's type by whichever of its names: Bools is NDArray[np.bool_].
    yield from (line.replace("NDArray[np.bool_]", "Bools") for line in _lines(module))


def _lines(module: str) -> Iterator[str]:
    loaded = importlib.import_module(module)
    for name in sorted(loaded.__all__):
        found = getattr(loaded, name)
        if isinstance(found, type) and issubclass(found, enum.Enum):
            yield f"{name}: {', '.join(f'{one.name}={one.value!r}' for one in found)}"
        elif isinstance(found, type) and issubclass(found, Record):
            yield f"{name}: {found.bits} bits: {', '.join(f'{field.name} {field.hi}:{field.lo}' for field in found.layout.values())}"
        elif isinstance(found, type) and issubclass(found, Exception) and "__init__" not in vars(found):
            yield f"{name}({', '.join(base.__name__ for base in found.__bases__)})"
        elif isinstance(found, type):
            yield f"{name}{inspect.signature(found)}"
            yield from (f"{name}.{line}" for line in members(found))
        elif isinstance(found, dict):
            yield from (f"{name}[{key!r}]" for key in found)
        elif callable(found) and inspect.isfunction(found):
            yield f"{name}{inspect.signature(found)}"
        else:
            yield f"{name} = {found!r}" if isinstance(found, int | str) else f"{name}: {found if not isinstance(found, Path) else found.name}"


def members(kind: type) -> Iterator[str]:
    for name in sorted(dir(kind)):
        found = inspect.getattr_static(kind, name)
        if name.startswith("_") and name != "__getitem__":
            continue
        if isinstance(found, property):
            assert found.fget is not None
            yield f"{name}: {found.fget.__annotations__.get('return')}"
        elif isinstance(found, classmethod | staticmethod) or inspect.isfunction(found):
            if not getattr(getattr(kind, name), "__module__", "wizard").startswith("wizard"):
                continue
            yield f"{name}{inspect.signature(getattr(kind, name))}"


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_and_signatures_stay(module: str) -> None:
    """A name or a parameter that goes, or comes to mean something else, breaks programs that are not here. What is new may be recorded later."""
    path, now = Path(__file__).parent / "golden/public.txt", list(lines(module))
    if golden.renewing():
        golden.same_section(path, module, "".join(f"{line}\n" for line in now))
    recorded = golden.section(path, module).splitlines()
    assert recorded
    gone = [line for line in recorded if line not in now]
    assert not gone, "\n".join(gone)


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_typed_and_described(module: str) -> None:
    loaded = importlib.import_module(module)
    page = PAGE.read_text()
    for name in loaded.__all__:
        found = getattr(loaded, name)
        assert re.search(rf"\b{name}\b", page), f"{module}.{name} is not in {PAGE.name}"
        if inspect.isclass(found) or inspect.isfunction(found):
            assert found.__doc__, name
        if inspect.isfunction(found):
            parameters = inspect.signature(found).parameters.values()
            assert all(one.annotation is not inspect.Parameter.empty for one in parameters), name


def test_the_page_runs() -> None:
    """Its blocks are one session, from the first to the last."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 6
    exec("\n".join(blocks), {"__name__": "page"})


def test_nothing_else_is_loaded() -> None:
    """The model alone needs msgspec: nothing of the rest of the program, and no package that a user of the model would not have."""
    script = (
        f"import sys; before = set(sys.modules)\nfor name in {ALONE!r}: __import__(name)\n"
        "print(*sorted({'.'.join(one.split('.')[:2]) if one.startswith('wizard') else one.split('.')[0] for one in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=LIMIT)
    loaded = set(done.stdout.split())
    assert {one for one in loaded if one.startswith("wizard")} == {"wizard", "wizard.arch", "wizard.smmu"}
    ours = {one for one in loaded if not one.startswith("wizard") and one not in sys.stdlib_module_names}
    # msgspec._utils asks for typing_extensions where it is installed, and does without
    assert ours - {"typing_extensions"} == {"msgspec"}
