"""Which form of ``trails`` runs: Python's, or the one that ``python -m wizard.smmu.compile`` compiled of the same file.

``FORM`` is ``compiled`` or ``Python``, ``WHY`` what decided. Compiled is used where it is there and was made of this very ``trails.py``. The variable
SMMU_WIZARD_COMPILED may say ``no``, or name the folder that it is in; without it that is the folder of this package.
"""

from __future__ import annotations

import os
from importlib.machinery import EXTENSION_SUFFIXES
from types import ModuleType
from typing import TYPE_CHECKING

VARIABLE = "SMMU_WIZARD_COMPILED"
NAME = "_trails"
HERE = os.path.dirname(__file__)
SOURCE = os.path.join(HERE, "trails.py")
COMMAND = "python -m wizard.smmu.compile"


def file_in(folder: str) -> str:
    """What a compiled form for this Python is called in a folder."""
    return os.path.join(folder, NAME + EXTENSION_SUFFIXES[0])


def digest() -> str:
    """What tells that two forms are of one source."""
    from hashlib import sha256

    with open(SOURCE, "rb") as source:
        return sha256(source.read()).hexdigest()


def compiled(given: str | None) -> tuple[ModuleType | None, str]:
    """The compiled form and where it is, or None and why there is none. ``given`` is the variable's value."""
    if given == "no":
        return None, f"{VARIABLE} is no"
    path = file_in(given or HERE)
    if not os.path.exists(path):
        return None, f"there is no {path} ({COMMAND} makes it)"
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(f"{__package__}.{NAME}", path)
    if spec is None or spec.loader is None:
        return None, f"{path} is no module of this Python"
    try:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        return None, f"{path} can't be loaded: {error}"
    if digest() != module.SOURCE:
        return None, f"{path} was made of another trails.py ({COMMAND} makes it anew)"
    return module, path


if TYPE_CHECKING:
    from wizard.smmu.trails import Check, Configured, Follower, Plan, Trail, Ways, translate

    FORM: str
    WHY: str
else:
    _module, WHY = compiled(os.environ.get(VARIABLE))
    FORM = "Python" if _module is None else "compiled"
    if _module is None:
        from wizard.smmu import trails as _module
    Check, Configured, Follower = _module.Check, _module.Configured, _module.Follower
    Plan, Trail, Ways, translate = _module.Plan, _module.Trail, _module.Ways, _module.translate

__all__ = ["FORM", "WHY", "Check", "Configured", "Follower", "Plan", "Trail", "Ways", "translate"]
