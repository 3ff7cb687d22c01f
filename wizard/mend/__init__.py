"""Mends: what is wrong in a VM and can be put right by rule alone, in the text that it came from.

    texts --load--> VMs --plan--> errors --wrongs.py (a request), guests.py (a text)--> mended
    mended --profile: edit_profile; domain, command line: changes.py over writers.py--> the texts with only the wrong places changed

A mend is kept only if, read and planned again, its error is gone and nothing else has come (runs.py). None decides what is somebody's to
decide (which VM gets a function, how much memory): those errors are told as they are.
"""

from wizard.mend.runs import Change, Left, Mended, mend, mendable

__all__ = ["Change", "Left", "Mended", "mend", "mendable"]
