# SPDX-License-Identifier: Apache-2.0
"""The pages of a registry as a browser shows them, and a report of ten thousand pulls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from buildset_registry.ledger.content import LedgerContent
from buildset_registry.report.page import as_page
from buildset_registry.report.summary import summarize

from tests.api.configurations import Configuration, only
from tests.api.harness import Registry
from tests.api.test_pages import links, push_with_history, shown
from tests.browser import SCHEMES, WIDTHS, Browser, browsing
from tests.unit.report.test_page import NASTY
from tests.unit.report.test_summary import pull

PICTURES = Path(__file__).resolve().parents[2] / "build" / "reports"


def plain(row: Configuration) -> bool:
    """Choose the one that a browser needs no certificate for."""
    return row.name == "plain-http"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all pages."""
    with browsing() as started:
        yield started


@only(plain, why="it is the same pages over TLS")
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wrong_with_the_pages(registry: Registry, browser: Browser, width: int) -> None:
    """No error, no request to elsewhere, nothing that axe-core knows; dark, light, wide, narrow."""
    push_with_history(registry, f"RUN make all && {NASTY} {'long' * 60}")
    for number in range(30):
        registry.push_image(f"quay.io/org/app{number}", f"v{number}")
    registry.put_manifest("quay.io/org/app", "another", registry.image("quay.io/org/app"))
    base = str(registry.push.base_url).rstrip("/")
    repository = next(one for one in links(shown(registry.push, "/")) if one.endswith("app"))
    image = next(one for one in links(shown(registry.push, repository)) if "1.0" in one)
    faults = []
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, path in (("front", "/"), ("repository", repository), ("image", image)):
        for scheme in SCHEMES:
            page = browser.show(f"{base}{path}", width, scheme)
            (PICTURES / f"page-{name}-{width}-{scheme}.png").write_bytes(page.picture)
            faults += page.faults(base)
    assert faults == []


def test_a_report_of_ten_thousand_pulls_opens(browser: Browser, tmp_path: Path) -> None:
    """In two seconds of a processor; the bound is for slow machines that do much at once."""
    rows = [pull(n, client=f"10.0.{n % 250}.1", name=f"quay.io/o/a{n}") for n in range(10_000)]
    report = tmp_path / "report.html"
    report.write_text(as_page(summarize(LedgerContent(rows), "registry", "now", {})))
    assert 0 < browser.load(report.as_uri()) < 20
