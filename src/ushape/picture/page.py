"""The page that a report stands on: pieces of HTML, the frame around them, and how it all looks.

Conventions
- A page is one HTML file that asks for nothing outside itself: styles and drawings stand in it, pictures are data URIs,
  there are no scripts, and its security policy forbids everything else.
- It follows the reader's light or dark setting, fits a phone of 360 px, and prints on paper.
- Every string that comes from outside is escaped here, by the piece that writes it; pieces take text and give HTML.
- A piece without content is the empty string, so that empty parts leave no trace.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from string import Template
from typing import Any

import numpy as np

__all__ = [
    "chip",
    "code",
    "facts",
    "folded",
    "number",
    "page",
    "paragraph",
    "percent",
    "section",
    "sentences",
    "swatch",
    "table",
    "words",
]

Colour = tuple[int, int, int]

NOTHING = "–"


def number(value: Any) -> str:
    """A score with three decimals, a count without, a dash for nothing."""
    if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)):
        return NOTHING
    return f"{value:.3f}" if isinstance(value, (float, np.floating)) else f"{value:d}"


def percent(share: float) -> str:
    """A share in [0, 1] as percent: whole numbers, with a decimal where one would hide what is left of it."""
    if share in (0, 1) or 0.01 <= share < 0.995:
        return f"{100 * share:.0f} %"
    return "< 0.1 %" if share < 0.001 else "> 99.9 %" if share > 0.999 else f"{100 * share:.1f} %"


def words(text: str) -> str:
    """Plain text; what stands in it between backticks is shown as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def section(heading: str, content: str, kind: str = "") -> str:
    """A part of the page with an address of its own, or nothing when it is empty."""
    name = re.sub(r"\W+", "-", heading.lower()).strip("-")
    return f'<section id="{name}" class="{kind}">\n<h2>{escape(heading)}</h2>\n{content}\n</section>' if content else ""


def paragraph(text: str, kind: str = "") -> str:
    """One paragraph of plain text."""
    return f'<p class="{kind}">{words(text)}</p>' if text else ""


def sentences(texts: Iterable[str]) -> str:
    """A list of sentences."""
    items = "\n".join(f"<li>{words(text)}</li>" for text in texts)
    return f"<ul>\n{items}\n</ul>" if items else ""


def code(text: str) -> str:
    """A command to be copied."""
    return f"<pre><code>{escape(text)}</code></pre>" if text else ""


def facts(values: Mapping[str, Any]) -> str:
    """Names with their values."""
    items = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(fact))}</dd></div>" for name, fact in values.items()
    )
    return f"<dl>\n{items}\n</dl>" if items else ""


def folded(summary: str, content: str) -> str:
    """Something to be opened by who wants it; `content` is HTML."""
    return f"<details>\n<summary>{escape(summary)}</summary>\n{content}\n</details>" if content else ""


def chip(text: str, kind: str = "") -> str:
    """A word in a coloured frame: the colour says again what the word says."""
    return f'<span class="chip {kind}">{escape(text)}</span>'


def swatch(colour: Colour, name: str) -> str:
    """A colour and what it stands for."""
    red, green, blue = colour
    return f'<span class="swatch"><i style="background:rgb({red},{green},{blue})"></i>{escape(name)}</span>'


def table(
    head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], summary: Iterable[tuple[str, Sequence[str]]] = ()
) -> str:
    """A table that scrolls inside its own box; cells are HTML, the first of each row is its heading.

    Args:
        head: text above each column, the first above the rows' headings.
        rows: (heading, cells).
        summary: rows that stay in sight with the head.
    """

    def line(row: tuple[str, Sequence[str]]) -> str:
        cells = "".join(f"<td>{cell}</td>" for cell in row[1])
        return f'<tr><th scope="row">{row[0]}</th>{cells}</tr>'

    columns = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    return (
        f'<div class="table" tabindex="0"><table>\n<thead><tr>{columns}</tr>\n'
        + "\n".join(map(line, summary))
        + "</thead>\n<tbody>\n"
        + "\n".join(map(line, rows))
        + "\n</tbody></table></div>"
    )


def page(title: str, parts: Sequence[str]) -> str:
    """The whole page of a title and the parts that are not empty, with links to those that are sections."""
    body = "\n".join(part for part in parts if part)
    headings = re.findall(r'<section id="([\w-]+)"[^>]*>\n<h2>([^<]*)</h2>', body)
    links = "\n".join(f'<a href="#{name}">{heading}</a>' for name, heading in headings)
    contents = f'<nav aria-label="contents">\n{links}\n</nav>' if len(headings) > 2 else ""
    return PAGE.substitute(title=escape(title), style=STYLE, contents=contents, body=body)


PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
<h1>$title</h1>
$contents
$body
</main>
</body>
</html>
""")

STYLE = """
:root { --ink: #1c2024; --soft: #5a6570; --page: #f5f6f7; --card: #fff; --line: #dfe3e7; --accent: #00795a;
  --reference: #3a8fd0; --estimate: #c46a00; --error: #b3261e; --error-card: #fdecea; --warning: #8a5a00;
  --warning-card: #fff4dd; --note: #35618c; --note-card: #eaf2fa }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #9ba7b2; --page: #14171a; --card: #1d2125; --line: #343a40; --accent: #3fc79a;
    --reference: #5aa9e6; --estimate: #f0a53a; --error: #ff9a8f; --error-card: #3a1d1b; --warning: #f0c060;
    --warning-card: #33290f; --note: #93c0ea; --note-card: #1a2a3a } }
* { box-sizing: border-box }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100% }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 76rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 .6rem; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 0 0 .7rem }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; overflow-wrap: anywhere }
h3 span { color: var(--soft); font-weight: normal; white-space: nowrap; margin-left: .5rem }
a { color: var(--accent) }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: 0 0 1rem; font-size: .9rem }
nav a { text-decoration: none; color: var(--soft); padding: .15rem 0 }
nav a:hover { color: var(--accent); text-decoration: underline }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.1rem;
  margin-bottom: 1rem; scroll-margin-top: .5rem }
p { margin: .5rem 0 0; color: var(--soft); max-width: 46rem }
p.answer { color: var(--ink); font-size: 1.1rem; margin: 0 0 .4rem; max-width: 52rem }
ul { margin: 0; padding-left: 1.2rem; max-width: 60rem; overflow-wrap: anywhere }
li + li { margin-top: .25rem }
.scores { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1rem 1.4rem;
  margin-top: 1rem }
.score b { display: block; font-size: 2rem; line-height: 1.2; color: var(--accent);
  font-variant-numeric: tabular-nums }
.score span { display: block }
.score small { display: block; color: var(--soft); font-size: .85rem; line-height: 1.4 }
details { margin-top: .8rem }
summary { cursor: pointer; color: var(--soft) }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: .3rem 1.5rem;
  margin: .7rem 0 0 }
dl div { display: flex; justify-content: space-between; gap: 1rem; border-bottom: 1px solid var(--line) }
dt { color: var(--soft); flex: none }
dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums }
.chip { display: inline-block; border-radius: 99px; padding: 0 .6em; font-size: .8rem; line-height: 1.6;
  font-weight: 600; border: 1px solid currentColor; white-space: nowrap; color: var(--soft) }
h3 .chip { margin-left: .5rem; color: var(--note); font-weight: 600 }
.chip.error { color: var(--error); background: var(--error-card) }
.chip.warning { color: var(--warning); background: var(--warning-card) }
.chip.note { color: var(--note); background: var(--note-card) }
ul.checks { list-style: none; padding: 0; margin: 0 0 .4rem; max-width: none }
ul.checks li { display: grid; grid-template-columns: 5.2rem 1fr; gap: .2rem .8rem; padding: .5rem 0;
  border-bottom: 1px solid var(--line); margin: 0 }
ul.checks li > :first-child { text-align: left }
ul.checks small { display: block; color: var(--soft); font-size: .9rem }
.four { display: grid; grid-template-columns: repeat(4, 1fr); gap: .6rem }
figure { margin: 0; min-width: 0 }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); gap: .8rem; margin-top: .7rem }
.mistakes img { width: 6rem; height: auto }
img { display: block; width: 100%; height: auto; border-radius: 4px }
img.few { image-rendering: pixelated }
figcaption { color: var(--soft); font-size: .85rem; margin-top: .2rem }
.swatch { display: inline-block; margin-right: .9em }
th .swatch { display: inline; margin: 0 }
figcaption .swatch { margin: 0 0 0 .5em }
i { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin-right: .3em;
  box-shadow: 0 0 0 1px color-mix(in srgb, var(--ink) 25%, transparent) }
label { display: block; cursor: zoom-in; position: relative }
label input { position: absolute; opacity: 0; width: 100%; height: 100%; margin: 0; cursor: inherit }
label input:focus-visible + img { outline: 3px solid var(--accent) }
label:has(input:checked) { cursor: zoom-out }
label input:checked { position: fixed; inset: 0; z-index: 10; cursor: zoom-out }
label input:checked + img { position: fixed; inset: 0; z-index: 9; width: 100%; height: 100%; object-fit: contain;
  background: color-mix(in srgb, var(--page) 94%, transparent); padding: 1rem; border-radius: 0 }
.table { overflow: auto; max-height: 32rem }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; white-space: nowrap }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line) }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--card); font-weight: normal }
table:has(.words) th:last-child { text-align: left }
thead { position: sticky; top: 0; z-index: 1; background: var(--card) }
thead tr:first-child th { font-weight: 600; border-bottom: 2px solid var(--line) }
thead td { color: var(--soft) }
td small { display: block; color: var(--soft) }
.words { text-align: left; white-space: normal; min-width: 16rem; max-width: 40rem }
td svg { display: block; width: 10rem; height: auto }
.share { display: block; margin: -.3rem -.7rem; padding: .3rem .7rem }
.drawings { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem 2rem }
.drawings svg { display: block; width: 100%; max-width: 28rem; height: auto; overflow: visible }
.drawings .swatch { margin: 0 1em 0 0 }
.drawings svg.square { max-width: 23rem }
.drawings figcaption { max-width: 28rem; font-size: .9rem }
svg text { fill: var(--soft); font: 13px system-ui, sans-serif }
svg .axis { stroke: var(--line); fill: none }
svg .even { stroke: var(--soft); stroke-dasharray: 4 4; fill: none }
svg .reference { fill: var(--reference); fill-opacity: .38 }
svg .estimate { stroke: var(--estimate); stroke-width: 2; fill: none }
svg .dot { fill: var(--estimate); fill-opacity: .6 }
i.reference { background: var(--reference); opacity: .6 }
i.estimate { background: var(--estimate) }
.beside { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1rem; align-items: start }
.curves { max-width: 31rem }
.curves svg { display: block; width: 100%; height: auto; font-family: inherit }
.curves text { font-family: system-ui, sans-serif !important; fill: inherit }
code { font: .92em ui-monospace, monospace; overflow-wrap: anywhere }
pre { margin: 0; padding: .7rem .9rem; background: var(--page); border-radius: 6px; white-space: pre-wrap;
  overflow-wrap: anywhere }
@media (max-width: 960px) { .beside { grid-template-columns: minmax(0, 1fr) } }
@media (max-width: 700px) {
  main { padding: .6rem }
  section { padding: .8rem .8rem }
  h1 { font-size: 1.35rem }
  .four { grid-template-columns: repeat(2, 1fr) }
  .scores { grid-template-columns: repeat(2, minmax(0, 1fr)) }
  ul.checks li { grid-template-columns: 1fr }
  dl { grid-template-columns: minmax(0, 1fr) }
  th:first-child { min-width: 9rem; white-space: normal; overflow-wrap: anywhere }
  nav a { padding: .3rem 0 } }
@media print {
  :root { --ink: #000; --soft: #444; --page: #fff; --card: #fff; --line: #ccc; --accent: #00795a;
    --reference: #3a8fd0; --estimate: #c46a00; --error: #b3261e; --error-card: #fdecea; --warning: #8a5a00;
    --warning-card: #fff4dd; --note: #35618c; --note-card: #eaf2fa; color-scheme: light }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact }
  html { font-size: 12px }
  body { font-size: 1rem }
  main { padding: 0; max-width: none }
  nav { display: none }
  section { border: 0; border-top: 1px solid var(--line); border-radius: 0; padding: .6rem 0 }
  article, figure, tr, li, .score { break-inside: avoid }
  h2, h3 { break-after: avoid }
  .table { overflow: visible; max-height: none }
  table { white-space: normal; font-size: .8rem }
  th, td { padding: .1rem .3rem }
  thead, th:first-child { position: static } }
"""
