"""What people see in one look, as data: hosts, VMs, isolation and translations; and how that is drawn as text, SVG and dot.

A model says what there is to see (``hostmap``, ``topology``, …) and knows no width and no colour. What draws it as text makes pieces
(``pieces``), each with the key of the thing that it stands for: screens put a cursor on them, the command line prints them.
"""
