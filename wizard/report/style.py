"""The style sheet of a report, inline. Colours have a contrast of 4.5 to 1 or more on both grounds, and nothing is said by colour alone."""

from __future__ import annotations

import base64
import hashlib

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1a1d21; --dim: #565d66; --line: #d3d7dc; --box: #f4f5f7; --link: #0b57a4;
  --good: #1f6b2b; --bad: #a8181f; --warn: #7a5200; --info: #0b5a75; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --ink: #e6e8ea; --dim: #a3abb5; --line: #3a4149; --box: #1d2126;
  --link: #7db7ff; --good: #7fd08c; --bad: #ff8f8f; --warn: #f0c060; --info: #72c7e0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 78rem; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.2rem 0 .4rem; }
p, ul { margin: .4rem 0; } ul { padding-left: 1.3rem; }
p, li, h1, h2, h3, dd { overflow-wrap: anywhere; } td { overflow-wrap: break-word; }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: .5rem 0; }
.mono { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: .88em; }
.dim { color: var(--dim); } small { font-size: .8em; font-weight: normal; color: var(--dim); }
.good, .yes, .passed, .proved { color: var(--good); } .bad, .no, .failed, .error { color: var(--bad); }
.warn, .unknown, .warning { color: var(--warn); } .info, .assumed { color: var(--info); }
.wide { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .22rem .6rem .22rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } td.mono, td.value { white-space: nowrap; }
tr:target, article:target, section:target > h2 { background: var(--box); outline: 2px solid var(--link); }
article { border-left: 3px solid var(--line); padding: .1rem 0 .1rem .8rem; margin: .7rem 0; break-inside: avoid; }
article.error { border-color: var(--bad); } article.warning { border-color: var(--warn); } article.info { border-color: var(--info); }
article.error, article.warning, article.info { color: inherit; } article h3 { margin: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .5rem 0; }
dt { color: var(--dim); } dd { margin: 0; min-width: 0; }
.strip a { text-decoration: none; padding: 0 .12em; font-family: ui-monospace, monospace; }
.sum { display: flex; flex-wrap: wrap; gap: .5rem 2rem; padding: .6rem .8rem; background: var(--box); } .sum b { font-size: 1.15rem; }
.drawing { overflow-x: auto; background: #fff; border: 1px solid var(--line); } .drawing svg { display: block; max-width: none; height: auto; }
meter { width: 7rem; height: .8rem; vertical-align: middle; }
@media (max-width: 40rem) { body { padding: .7rem; font-size: 14px; } dl { grid-template-columns: 5rem 1fr; gap: .1rem .5rem; } }
@media print {
  :root { color-scheme: light; --ground: #fff; --ink: #000; --dim: #444; --line: #bbb; --box: #fff; --link: #000;
    --good: #1f6b2b; --bad: #a8181f; --warn: #7a5200; --info: #0b5a75; }
  body { max-width: none; padding: 0; font-size: 9px; } nav { display: none; } a { text-decoration: none; }
  .wide, .drawing { overflow: visible; } .drawing svg { max-width: 100%; }
  tr { break-inside: avoid; } thead { display: table-header-group; } h2, h3 { break-after: avoid; } td.mono, td.value { white-space: normal; }
}
"""

HASH = "sha256-" + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
"""What the page's policy knows the style sheet by (CSP 3, 2.3.1): no other style is applied, and no attribute is one."""
