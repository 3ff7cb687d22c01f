"""Profiles: one VM's request as TOML, with every choice written out, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wizard.profile.read import read_profile
from wizard.profile.schema import schema

if TYPE_CHECKING:
    from wizard.profile.edit import edit_profile, write_profile

__all__ = ["edit_profile", "read_profile", "schema", "write_profile"]


def __getattr__(name: str) -> Any:
    """What writes profiles is loaded for those who write: tomlkit takes longer than a profile takes to be read."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wizard.profile import edit

    return getattr(edit, name)
