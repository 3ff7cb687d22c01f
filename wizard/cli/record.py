"""``record``: write a snapshot."""

from __future__ import annotations

import argparse

from wizard.base.errors import UsageError
from wizard.base.exits import Exit
from wizard.base.files import PLAIN, PRIVATE
from wizard.base.text import plural, visible_json
from wizard.cli.output import confirmed, emit, say
from wizard.cli.source import facts_of, source_of
from wizard.facts.redact import for_writing
from wizard.facts.snapshot import encode
from wizard.facts.source import RECORDING, secrets_for

_NOBODY = "A probe opens devices, which resets them, and nobody is here to be asked."


def run_record(arguments: argparse.Namespace) -> int:
    """A snapshot of the host, redacted unless told otherwise, and what was redacted or could not be read."""
    facts = facts_of(arguments)
    if arguments.probe:
        if not source_of(arguments).live:
            raise UsageError("--probe asks the devices of this machine; a recording has none.", "Leave --replay, --root or --demo away.")
        from wizard.facts.probe import probe

        facts = probe(facts, confirm=lambda question: confirmed(question, arguments.yes, _NOBODY), say=say)
    facts, redacted = for_writing(facts, secrets_for(source_of(arguments)), redacted=not arguments.no_redact)
    if redacted:
        say(f"Redacted: {', '.join(redacted)}. (--no-redact keeps them.)")
    needs_root = [path for path, reason in facts.unread.items() if reason == "needs root"]
    if needs_root:
        say(f"{plural(len(needs_root), 'file')} could not be read without root; what they hold is unknown. Root would tell: sudo smmu-wizard record.")
    if arguments.summary:
        if arguments.output and arguments.output.endswith(RECORDING):
            raise UsageError("A summary is no umockdev recording.", "Name a file that ends in .json.")
        from wizard.fleet.entry import summary_file

        text = visible_json(summary_file(encode(facts)).decode())
    elif arguments.output and arguments.output.endswith(RECORDING):
        from wizard.facts.umockdev import to_umockdev

        say("A .umockdev recording knows nothing of groups, figures and the kernel's log; a snapshot does.")
        text = to_umockdev(facts)
    else:
        text = visible_json(encode(facts).decode())
    emit(arguments, text, mode=PRIVATE if arguments.no_redact else PLAIN)
    return Exit.OK
