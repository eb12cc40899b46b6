# SPDX-License-Identifier: Apache-2.0
"""The page stands alone, can be read without script, and lets nobody else speak in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from buildset_registry.ledger.content import LedgerContent
from buildset_registry.report.assets import SCRIPT, STYLE, source
from buildset_registry.report.html import element, escaped, raw
from buildset_registry.report.page import as_page
from buildset_registry.report.summary import summarize
from buildset_registry.report.text import as_text

from tests.unit.report.test_summary import DIGEST, OTHER, pull, push, row

NASTY = (
    "<script>alert(1)</script>",
    "</style></script><img src=x onerror=alert(1)>",
    "\" onfocus='alert(1)' autofocus x=\"",
    "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe\N{POP DIRECTIONAL FORMATTING}",
    "\x1b[31mred\r\n\x00\x85\N{LINE SEPARATOR}",
    "javascript:alert(1)",
    "\udcff",
    "x" * 4096,
    "{{7*7}} ${7*7} &lt;b&gt;",
)
#: Elements that a page of ours may have.
KNOWN = frozenset(
    {
        *("html", "head", "meta", "title", "style", "script", "body", "header", "nav", "main"),
        *("section", "footer", "a", "h1", "h2", "p", "dl", "div", "dt", "dd", "ul", "li", "code"),
        *("table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary"),
        *("svg", "g", "path", "text"),
    }
)


class Reader(HTMLParser):
    """The elements of a page in their order, with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, *names: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of some names."""
        return [attributes for name, attributes in self.elements if name in names]


def page(text: str = "a harmless text") -> str:
    """Return a page in which a text stands wherever a client may put one."""
    named = {"agent": text, "client": text, "user": text, "name": text}
    rows = [
        *(pull(number, **named, reference=text, media_type=text) for number in range(2)),
        pull(3, source={"kind": "upstream", "registry": text, "asked": text}, **named),
        push(4, **named, references=[text, "1"], media_type=text),
        row("missing", 5, **named, reference=text, status=404, requests=1),
        row("upstream", 6, registry=text, requests={"GET 200": 1}),
        row("lost", 7, rows=1, reason=text),
        pull(8, **named, reference="moved", digest=DIGEST),
        pull(9, **named, reference="moved", digest=OTHER),
    ]
    content = LedgerContent(rows, problems=[text])
    return as_page(summarize(content, text, "now", {text: text}))


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_what_clients_choose_is_text_and_nothing_else(text: str) -> None:
    """The same elements and attributes as with a harmless text, none of which runs anything."""
    plain, nasty = Reader(page()), Reader(page(text))
    assert [name for name, _attributes in nasty.elements] == [
        name for name, _attributes in plain.elements
    ]
    assert [[*one] for _name, one in nasty.elements] == [[*one] for _name, one in plain.elements]
    names = {key for _name, attributes in nasty.elements for key in attributes}
    assert not [name for name in names if name.startswith("on") or name in ("src", "style")]


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_what_cannot_be_seen_is_shown(text: str) -> None:
    """In the page and in the text: no control, no change of direction, no half character."""
    content = LedgerContent([pull(1, agent=text, name=text)])
    for shown in (page(text), as_text(summarize(content, text, "now", {}))):
        assert all(char.isprintable() or char == "\n" for char in shown)


def test_a_page_asks_for_nothing_from_elsewhere() -> None:
    """No URL but those inside the page, and a policy that forbids all others."""
    read = Reader(page())
    assert {name for name, _attributes in read.elements} <= KNOWN
    assert all(str(one["href"]).startswith("#") for one in read.all("a"))
    assert "http:" not in page() and "https:" not in page() and "@import" not in page()
    (policy,) = [str(one["content"]) for one in read.all("meta") if "http-equiv" in one]
    assert policy.startswith("default-src 'none';")
    assert source(STYLE) in policy and source(SCRIPT) in policy and "unsafe" not in policy


def test_a_page_can_be_read_by_ear_and_by_keyboard() -> None:
    """Language, title, landmarks with names of their own, captions, and boxes that take focus."""
    read = Reader(page())
    assert read.all("html") == [{"lang": "en"}]
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert len(read.all(landmark)) == 1, landmark
    ids = [one["id"] for _name, one in read.elements if "id" in one]
    assert len(ids) == len(set(ids))
    targets = [str(one["href"])[1:] for one in read.all("a")]
    targets += [str(one["aria-labelledby"]) for one in read.all("section")]
    assert set(targets) <= set(ids)
    regions = [one for one in read.all("div") if one.get("class") == "scroll"]
    labels = [one["aria-label"] for one in regions]
    assert len(labels) == len(set(labels)) and all(one["tabindex"] == "0" for one in regions)
    assert len(read.all("caption")) == len(read.all("table")) == len(regions) - 1
    assert all(one["scope"] == "col" for one in read.all("th"))
    (picture,) = read.all("svg")
    assert picture["role"] == "img" and "5 pulls" in str(picture["aria-label"])


def test_everything_is_there_without_script() -> None:
    """The script hides and sorts; it adds nothing that has to be known."""
    bare = re.sub(r"<script>.*?</script>", "", page(), flags=re.DOTALL)
    read = Reader(bare)
    assert DIGEST in read.text and OTHER in read.text
    assert not [one for _name, one in read.elements if "hidden" in one]


def test_ten_thousand_pulls_are_a_page() -> None:
    """All of them, and the picture as small as with few."""
    rows = [pull(n, client=f"10.0.{n % 250}.1", name=f"quay.io/o/a{n}") for n in range(10_000)]
    made = as_page(summarize(LedgerContent(rows), "registry", "now", {}))
    assert made.count('<td class="time">') == 10_000
    assert made.count("<path") <= 13 * 13


def test_no_element_is_made_of_a_text() -> None:
    """A name that is no attribute is refused, and so is a script that would end early."""
    assert escaped('<a b="c">') == "&lt;a b=&quot;c&quot;&gt;"
    with pytest.raises(ValueError, match="not an attribute"):
        element("p", **{"x onload": "y"})
    with pytest.raises(ValueError, match="end the element"):
        raw("script", "</script>")
