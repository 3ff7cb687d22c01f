#!/usr/bin/python3
"""The command of the package: the modules are private to it."""

import sys

sys.path.insert(0, "/usr/share/smmu-wizard")

from wizard.cli.main import entry

entry()
