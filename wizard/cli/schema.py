"""``schema``: JSON Schema of every input format and every ``--json`` output, out of the model itself."""

from __future__ import annotations

import argparse
import importlib
import json
from typing import Any

import msgspec

from wizard.base.errors import UsageError
from wizard.base.exits import Exit
from wizard.base.text import visible
from wizard.cli.output import put

# name -> where its model is; loaded when it is asked for
MODELS: dict[str, tuple[str, str]] = {
    "snapshot": ("wizard.facts.model", "Facts"),
    "list": ("wizard.host.view", "ListView"),
    "row": ("wizard.fleet.rows", "Row"),
    "show": ("wizard.host.view", "ShowView"),
    "doctor": ("wizard.host.doctor", "Diagnosis"),
    "knowledge": ("wizard.knowledge.age", "KnowledgeView"),
    "explain": ("wizard.explain.report", "Report"),
    "messages": ("wizard.explain.listing", "Listing"),
    "plan": ("wizard.cli.planning", "PlanView"),
    "check": ("wizard.cli.check", "CheckView"),
    "import": ("wizard.cli.importing", "ImportView"),
    "fix": ("wizard.cli.fix", "FixView"),
    "dry-run": ("wizard.dryrun.model", "Report"),
    "verify": ("wizard.running.model", "VerifyView"),
    "postmortem": ("wizard.running.postmortem", "Postmortem"),
    "rehearse": ("wizard.rehearsal.report", "Report"),
    "case": ("wizard.smmu.caseformat", "Case"),
    "answer": ("wizard.smmu.caseformat", "Answer"),
    "watch": ("wizard.running.watch.records", "Record"),
    "hitless": ("wizard.cli.hitless", "HitlessView"),
    "tables": ("wizard.smmu.dumps.view", "DumpView"),
    "diff": ("wizard.fleet.diff.model", "DiffView"),
    "summary": ("wizard.fleet.summaryfile", "SummaryFile"),
    "host-row": ("wizard.fleet.hostrows", "HostRow"),
    "baseline": ("wizard.fleet.baseline", "BaselineView"),
    "match": ("wizard.fleet.place", "MatchView"),
}
NAMES = sorted([*MODELS, "profile", "match-request"])


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of one format."""
    if name == "match-request":
        from wizard.fleet.request import schema as request_schema

        return request_schema()
    if name == "profile":
        from wizard.profile.schema import schema  # a profile is declared key by key, with its own sentences

        return schema()
    module, model = MODELS[name]
    found = msgspec.json.schema(getattr(importlib.import_module(module), model))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | found


def run_schema(arguments: argparse.Namespace) -> int:
    """One schema, or the names there are."""
    if arguments.name is None:
        put("\n".join(NAMES) + "\n")
        return Exit.OK
    if arguments.name not in NAMES:
        raise UsageError(f"There is no schema {visible(arguments.name)}.", f"There are: {', '.join(NAMES)}.")
    put(json.dumps(schema_of(arguments.name), indent=2) + "\n")
    return Exit.OK
