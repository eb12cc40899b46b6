# SPDX-License-Identifier: Apache-2.0
"""Style and script of the pages: in the page itself, named by hash in its policy; pure."""

from __future__ import annotations

import base64
import hashlib
from functools import cache

STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1b1f24; --soft: #57606a; --edge: #d0d7de;
  --band: #f6f8fa; --link: #0757ba; --flow: #2f6fd0; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --back: #0f1318; --text: #e6e9ed; --soft: #a3adb8;
  --edge: #39414b; --band: #191f27; --link: #7db4ff; --flow: #6ea8ff; --bad: #ff9a91; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
header, nav, main, footer { max-width: 80rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1rem; }
h1 { font-size: 1.6rem; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 1.2rem 0 .4rem; overflow-wrap: anywhere; }
p, ul { margin: .5rem 0; overflow-wrap: anywhere; }
a { color: var(--link); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; list-style: none; }
nav a { display: inline-block; padding: .25rem 0; }
.skip { position: absolute; left: -100rem; }
.skip:focus { left: 1rem; top: .5rem; background: var(--back); padding: .5rem; z-index: 1; }
.sums { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem;
  margin: 1rem 0; padding: 0; }
.sums div { border: 1px solid var(--edge); border-radius: .5rem; padding: .6rem .8rem;
  background: var(--band); display: flex; flex-direction: column-reverse;
  justify-content: flex-end; }
.sums dd { margin: 0; font-size: 1.4rem; font-weight: 600; }
.sums dt { color: var(--soft); }
.scroll { overflow-x: auto; border: 1px solid var(--edge); border-radius: .5rem;
  content-visibility: auto; contain-intrinsic-size: auto 30rem; }
.scroll svg { display: block; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
caption { text-align: left; padding: .5rem .6rem; color: var(--soft); }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem;
  border-top: 1px solid var(--edge); }
thead th.number { text-align: right; }
thead th { background: var(--band); white-space: nowrap; }
td { max-width: 24rem; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.time, td.short { white-space: nowrap; }
td.words { min-width: 13rem; }
table.wide { min-width: 72rem; }
code { font: .85em/1.4 ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
td .clip { display: inline-block; max-width: 13.5em; overflow: hidden; white-space: nowrap;
  text-overflow: ellipsis; vertical-align: bottom; }
td .clip:hover { max-width: none; white-space: normal; }
td.agent .clip { max-width: 11em; font: inherit; }
td.agent .clip:hover { max-width: 20em; }
pre { overflow-x: auto; padding: .6rem .8rem; border: 1px solid var(--edge); border-radius: .5rem;
  background: var(--band); }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0;
  cursor: pointer; text-align: inherit; }
th button::after { content: " \\2195"; color: var(--soft); }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
input[type=search] { font: inherit; color: inherit; background: var(--back); width: 100%;
  max-width: 26rem; padding: .4rem .6rem; border: 1px solid var(--soft); border-radius: .4rem; }
.search { margin: .5rem 0; display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; }
.search label { flex-basis: 100%; }
.bad { color: var(--bad); }
.soft { color: var(--soft); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
svg text { fill: var(--text); font: 14px system-ui, sans-serif; }
svg path { stroke: var(--flow); stroke-opacity: .55; }
svg g:hover path { stroke-opacity: 1; }
details summary { cursor: pointer; }
@media print { .search, nav { display: none; } }
"""

SCRIPT = """
'use strict';
const most = 500;
for (const table of document.querySelectorAll('table.sortable')) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const make = (name, text) => {
    const made = document.createElement(name);
    made.textContent = text;
    if (name === 'button') made.type = 'button';
    return made;
  };
  let rows = [...body.rows], all = false, words = [], timer = 0;
  const texts = new Map(), text = row => {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  };
  const count = make('span', ''), more = make('button', 'Show all');
  const draw = () => {
    let found = 0, shown = 0;
    for (const row of rows) {
      const fits = words.every(word => text(row).includes(word));
      found += fits;
      row.hidden = !fits || (!all && shown >= most);
      shown += !row.hidden;
    }
    count.textContent = found === rows.length && shown === found ? '' :
      shown + ' rows shown, ' + found + ' of ' + rows.length + ' found';
    more.hidden = shown === found;
  };
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
  };
  const order = new Intl.Collator('en', {numeric: true}).compare;
  heads.forEach((head, column) => {
    const button = make('button', head.textContent);
    head.replaceChildren(button);
    button.addEventListener('click', () => {
      const down = head.getAttribute('aria-sort') === 'ascending';
      heads.forEach(other => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      const keyed = rows.map(row => [value(row, column), row]);
      keyed.sort(([a], [b]) => typeof a === 'number' ? a - b : order(a, b));
      if (down) keyed.reverse();
      rows = keyed.map(([, row]) => row);
      draw();
      const sorted = document.createDocumentFragment();
      sorted.append(...rows);
      body.append(sorted);
    });
  });
  const search = make('div', ''), label = make('label', 'Search in: ' + table.dataset.title);
  const input = make('input', '');
  search.className = 'search';
  input.type = 'search';
  input.id = table.id + '-search';
  label.htmlFor = input.id;
  count.setAttribute('role', 'status');
  search.append(label, input, count, more);
  table.parentElement.before(search);
  input.addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      words = input.value.toLowerCase().split(' ').filter(word => word);
      draw();
    }, 150);
  });
  more.addEventListener('click', () => {
    all = true;
    input.focus();
    draw();
  });
  draw();
}
"""


#: The same, and what keeps running transfers up to date while somebody looks.
LIVE_SCRIPT = (
    SCRIPT
    + """
setInterval(async () => {
  const live = document.querySelector('[data-live]');
  if (!live || document.hidden) return;
  const answer = await fetch(location.href, {credentials: 'same-origin'});
  if (!answer.ok) return;
  const made = new DOMParser().parseFromString(await answer.text(), 'text/html');
  const now = made.getElementById(live.id);
  if (now) live.replaceChildren(...now.childNodes);
}, 3000);
"""
)


def source(text: str) -> str:
    """Return how a policy names a script or style in a page (CSP level 3, hash-source)."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def policy(script: str = SCRIPT, *more: str) -> str:
    """Return the Content-Security-Policy of a page: nothing from elsewhere, no other script."""
    parts = ["default-src 'none'", f"style-src {source(STYLE)}", f"script-src {source(script)}"]
    return "; ".join([*parts, "base-uri 'none'", "form-action 'none'", *more])


@cache
def live_policy() -> str:
    """Return the policy of a page of the registry, which may ask for itself again."""
    return policy(LIVE_SCRIPT, "connect-src 'self'", "img-src data:", "frame-ancestors 'none'")
