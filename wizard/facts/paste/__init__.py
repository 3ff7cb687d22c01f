"""Text and files that hold facts of a host without being a recording of it: what people put into a bug report.

    kinds.py     the registry: bytes -> pieces, each kind known by its content; one text may hold several
    piece.py     what one kind tells, before it is joined
    combine.py   pieces of one host -> Facts: what none of them tells is not read, and names them
    text.py      the text as it was printed: without prompts, quotes, colours, fences and stamps

A new kind is one module with ``read`` and one line in kinds.py.
"""
