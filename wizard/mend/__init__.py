"""Mends: what is wrong in a VM and can be put right by rule alone, in the request and in the text that it came from.

    plan with errors --wrongs.py--> a request without them --runs.py: planned again, and kept only if it is better--> Mended
    Mended + the text --profile: edit_profile--> the text with only the wrong places changed

A mend decides nothing that is somebody's to decide (which VM gets a function, how much memory): those errors are told as they are.
"""

from wizard.mend.runs import Change, Mended, mend

__all__ = ["Change", "Mended", "mend"]
