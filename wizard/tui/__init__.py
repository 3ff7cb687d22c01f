"""The wizard: a Textual face over the same steps that the commands take. Nothing is judged here."""

import os

# A key is painted in steps (its row, then what the detail says of it), each of which waits for the next frame: twice as many frames as
# Textual makes by itself halve that wait, and nothing is painted that did not change.
os.environ.setdefault("TEXTUAL_FPS", "120")
