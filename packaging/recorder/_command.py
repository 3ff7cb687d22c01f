"""The command line of ``smmu-wizard-record``: `record` alone."""

import argparse

from wizard import __version__
from wizard.base.errors import UsageError
from wizard.facts.model import VERSION


def parse(words):
    """The arguments of `record`, with ``run`` the command's function."""
    parser = argparse.ArgumentParser("smmu-wizard-record", description="Write a snapshot of a host: what smmu-wizard record writes.")
    parser.add_argument("--version", action="version", version="smmu-wizard-record {} (snapshot format {})".format(__version__, VERSION))
    parser.add_argument("--root", metavar="DIR", help="a directory (or tar) that holds a host's sys/ and, where they exist, proc/, dmesg …")
    parser.add_argument("--policy", metavar="FILE", help="a policy file (live: /etc/smmu-wizard/policy.toml)")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to a file instead of standard output")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    parser.add_argument("--no-redact", action="store_true", help="keep serial numbers, MAC and IP addresses, UUIDs and names")
    parser.add_argument("--probe", action="store_true", help="also ask iommufd, of functions already on a vfio driver; opening one resets it")
    parser.add_argument("--yes", action="store_true", help="do not ask before a probe")
    parser.set_defaults(command="record", run=_run, replay=None, demo=False, summary=False, color="auto", no_pager=True, paged=False)
    arguments = parser.parse_args(words)
    for name, shown in (("root", "--root"), ("policy", "--policy"), ("output", "-o")):
        if getattr(arguments, name) == "":
            raise UsageError("{} names nothing.".format(shown), "Name it, or leave {} away.".format(shown))
    return arguments


def _run(arguments):
    from wizard.cli.record import run_record

    return run_record(arguments)
