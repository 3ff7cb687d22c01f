"""Profiles: one VM's request as TOML, with every choice written out, and back."""

from __future__ import annotations

from wizard.profile.edit import edit_profile, write_profile
from wizard.profile.read import read_profile
from wizard.profile.schema import schema

__all__ = ["edit_profile", "read_profile", "schema", "write_profile"]
