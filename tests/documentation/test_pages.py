# SPDX-License-Identifier: Apache-2.0
"""The first page's picture, the change log, and what leads from one page to another."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from tools import draw_flow

REPOSITORY = Path(__file__).resolve().parents[2]
FLOW = yaml.safe_load(draw_flow.SOURCE.read_text())


class Picture(HTMLParser):
    """What a browser makes of the picture inside a page: its root, and the texts that say it."""

    def __init__(self) -> None:
        super().__init__()
        self.root: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Remember the root's attributes, and which element a text is in."""
        named = {name: value or "" for name, value in attributes}
        self.root = self.root or named
        self.open.append(tag)
        if tag in ("title", "desc"):
            self.texts[named["id"]] = ""

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Pass over an element that has nothing inside."""

    def handle_endtag(self, tag: str) -> None:
        """Elements end in the order in which they began."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep a text that says what the picture shows."""
        if self.open and self.open[-1] in ("title", "desc"):
            self.texts[list(self.texts)[-1]] += data


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as WCAG 2 defines it."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colours, from 1 to 21."""
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def test_picture_is_what_its_description_makes() -> None:
    """Whoever changes the description runs tools/draw_flow.py."""
    assert draw_flow.PICTURE.read_text() == draw_flow.draw(FLOW)


def test_picture_tells_a_screen_reader_what_it_shows() -> None:
    """It is one image with a title and a text, which it names as its label."""
    picture = Picture()
    picture.feed(draw_flow.PICTURE.read_text())
    picture.close()
    assert picture.root["role"] == "img"
    assert picture.open == []
    assert list(picture.texts.values()) == [FLOW["title"], FLOW["description"]]
    assert picture.root["aria-labelledby"].split() == list(picture.texts)


@pytest.mark.parametrize("scheme", [draw_flow.LIGHT, draw_flow.DARK], ids=["light", "dark"])
def test_picture_can_be_read_on_any_page(scheme: dict[str, str]) -> None:
    """It has a ground of its own, and the contrasts that WCAG 2 wants of text and of lines."""
    for ground in ("ground", "panel", "card"):
        assert contrast(scheme["ink"], scheme[ground]) >= 7
        assert contrast(scheme["faint"], scheme[ground]) >= 4.5
        for line in ("push", "pull", "upstream"):
            assert contrast(scheme[line], scheme[ground]) >= 3
    for badge in ("push", "pull", "upstream"):
        assert contrast(scheme["card"], scheme[badge]) >= 4.5


def test_readme_shows_the_picture_with_its_title() -> None:
    """Who does not see the picture hears what the description says."""
    readme = (REPOSITORY / "README.rst").read_text()
    alt = re.search(r"\.\. image:: docs/image-flow\.svg\n   :alt: (.*)\n", readme)
    assert alt
    assert alt.group(1) == FLOW["title"]


def test_change_log_has_the_releases_that_there_are() -> None:
    """It is made by antsibull-changelog, which makes none before the first release."""
    releases = yaml.safe_load((REPOSITORY / "changelogs" / "changelog.yaml").read_text())[
        "releases"
    ]
    page = (REPOSITORY / "CHANGELOG.rst").read_text()
    assert set(re.findall(r"^v(\d\S*)$", page, re.MULTILINE)) == set(releases)
    assert ("There is no release yet" in page) == (not releases)


def links(path: Path) -> list[str]:
    """Return the targets of the references of a page that lead to other files of the repository."""
    targets = re.findall(r"<([^<>`\s]+)>`__?", path.read_text())
    targets += re.findall(r"\]\(([^)\s]+)\)", path.read_text()) if path.suffix == ".md" else []
    return [target for target in targets if "://" not in target and target[0] != "#"]


@pytest.mark.parametrize("name", ["README.rst", "CONTRIBUTING.rst", "SECURITY.md", "CHANGELOG.rst"])
def test_page_at_the_top_leads_to_what_is_there(name: str) -> None:
    """A forge follows these references."""
    missing = [target for target in links(REPOSITORY / name) if not (REPOSITORY / target).exists()]
    assert missing == []


def test_readme_leads_to_the_pages_for_newcomers() -> None:
    """Whoever reads the first page finds the tutorial, the how-tos and the reference."""
    targets = links(REPOSITORY / "README.rst")
    for wanted in ("docs/tutorial.rst", "docs/how-to/zuul.rst", "docs/reference/facts.rst"):
        assert wanted in targets
