"""``smmu-wizard-record``: `smmu-wizard record` alone, as one file for Python 3.6 and later (scripts/recorder makes it)."""

import gc
import os
import sys

if sys.version_info < (3, 6):
    sys.exit("smmu-wizard-record: this is Python {}.{}.\nRun it with Python 3.6 or later.".format(*sys.version_info[:2]))
if sys.implementation.name == "pypy":  # what CPython has since 3.4
    os.O_PATH = getattr(os, "O_PATH", 0o10000000)  # include/uapi/asm-generic/fcntl.h
    gc.set_threshold = getattr(gc, "set_threshold", lambda *_: None)

from _command import parse

from wizard.cli.main import entry

entry(parse)
