"""A report for people who are not at the terminal: one HTML page with nothing from elsewhere, and no script.

    page.py    the page: head with its policy, contents, sections
    host.py    the host: its map, findings, functions
    vms.py     VMs, topology, dry run, isolation, cost
    html.py    elements and tables; text is escaped unless it was made there
    style.py   how it looks: on a screen, narrow, dark, printed

Every function and every finding has an anchor: ``#f-0000-14-00.0``, ``#finding-group-shared``.
"""

from __future__ import annotations

from wizard.report.page import page

__all__ = ["page"]
