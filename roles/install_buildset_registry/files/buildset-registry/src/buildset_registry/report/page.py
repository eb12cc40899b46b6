# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML file that stands alone: no script, style, font or picture from elsewhere.

It is whole without its script, which adds sorting and searching. Landmarks, headings, captions and
labels are for screen readers, what scrolls can be reached by keyboard. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from buildset_registry.report.assets import SCRIPT, STYLE, policy
from buildset_registry.report.flows import flows
from buildset_registry.report.html import Markup, element, joined, raw
from buildset_registry.report.tables import (
    Cell,
    agent_cell,
    bytes_cell,
    digest_code,
    lines,
    number_cell,
    plain_time,
    scrolling,
    section,
    table,
    time_cell,
)
from buildset_registry.report.text import amount, named
from buildset_registry.report.values import PulledImage, PushedImage, Summary

#: Pulls that are listed: a browser takes some seconds for so many.
_MOST_ROWS = 20_000

#: A section: its key, its title, and what is in it.
Section = tuple[str, str, Markup]


def as_page(report: Summary) -> str:
    """Return the whole file."""
    title = f"Images of {report.registry}"
    made, begun, ended = map(plain_time, (report.made, report.begun, report.ended))
    told = (
        f"Made {made}; the ledger goes from {begun} to {ended} (UTC)."
        if report.begun
        else f"Made {made} (UTC); the ledger is empty."
    )
    intro = (element("p", told, class_="soft"), _sums(report))
    meta = element("meta", http_equiv="Content-Security-Policy", content=policy())
    return document(title, [*_sections(report)], intro, meta)


def document(
    title: str,
    sections: Sequence[Section],
    intro: Sequence[object],
    *meta: str,
    script: str = SCRIPT,
) -> str:
    """Return an HTML document with a list of its sections at the top."""
    links = [element("li", element("a", name, href=f"#{key}")) for key, name, _content in sections]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        *meta,
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        raw("style", STYLE),
    )
    body = element(
        "body",
        element("a", "Skip to the content", href="#content", class_="skip"),
        element("header", element("h1", title), *intro),
        element("nav", element("ul", *links), aria_label="Sections", class_="sections"),
        element("main", *(section(*one) for one in sections), id="content", tabindex="-1"),
        element("footer", element("p", "Made by buildset-registry.", class_="soft")),
        raw("script", script),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _sums(report: Summary) -> Markup:
    fetched = sum(use.received for use in report.upstreams)
    served = sum(pull.store_bytes + pull.upstream_bytes for pull in report.pulls)
    numbers = (
        ("images pulled", f"{len(report.pulls):,}"),
        ("images pushed", f"{len(report.pushes):,}"),
        ("asked for, not served", f"{len(report.missing):,}"),
        ("nodes", f"{len(report.nodes):,}"),
        ("served", amount(served)),
        ("fetched from upstreams", amount(fetched)),
    )
    pairs = (element("div", element("dt", name), element("dd", value)) for name, value in numbers)
    return element("dl", *pairs, class_="sums")


def _sections(report: Summary) -> Iterator[Section]:
    """Yield the sections that have something to say; what was not seen always has."""
    if report.gaps:
        yield "gaps", "What this report lacks", lines(report.gaps)
    unseen = lines(report.unseen) if report.unseen else element("p", "Nothing that is known of.")
    yield "unseen", "What was not seen", unseen
    if report.pulls:
        names = {node.address: node.name for node in report.nodes if node.name}
        picture = scrolling("Picture of flows", flows(report.pulls, names))
        yield "flows", "From where to whom", picture
        yield "pulls", "Who pulled what", _pulls(report.pulls, names)
    if report.pushes:
        yield "pushes", "What was pushed", _pushes(report.pushes)
    if report.upstreams:
        yield "upstreams", "Upstreams", _upstreams(report)
    if report.missing:
        yield "missing", "Asked for and not served", _missing(report)
    if report.moved:
        yield "moved", "Tags that moved", _moved(report)
    if report.nodes:
        yield "nodes", "Nodes", _nodes(report)


def _pulls(pulls: Sequence[PulledImage], names: Mapping[str, str]) -> Markup:
    columns = (
        *("Time", "Client", "Agent", "Image", "Digest", "Platform", "From"),
        *("From the store", "From upstream"),
    )
    rows = (_pull(pull, names.get(pull.client, "")) for pull in pulls[-_MOST_ROWS:])
    made = table("pulls-table", "Pulls", columns, rows)
    if len(pulls) <= _MOST_ROWS:
        return made
    told = f"These are the newest {_MOST_ROWS:,} of {len(pulls):,}; report --json has all."
    return joined(element("p", told), made)


def _pull(pull: PulledImage, node: str) -> Sequence[object]:
    user = f" ({pull.user})" if pull.user else ""
    read = "" if pull.read else " (asked by HEAD alone)"
    platforms = [
        joined(one["platform"], " ", digest_code(one["digest"]), " ")
        for one in pull.manifests
        if one["digest"] != pull.digest
    ]
    return (
        time_cell(pull.time),
        Cell(f"{node} {pull.client}{user}".strip(), "short"),
        agent_cell(pull.agent),
        Cell(f"{named(pull.image, pull.reference)}{read}", "words"),
        digest_code(pull.digest),
        joined(*platforms),
        Cell(pull.source, "words bad" if pull.stale else "words"),
        bytes_cell(pull.store_bytes),
        bytes_cell(pull.upstream_bytes),
    )


def _pushes(pushes: Sequence[PushedImage]) -> Markup:
    columns = ("Time", "Image", "Digest", "By", "Agent", "Size", "Layers", "Pulls")
    return table("pushes-table", "Pushes", columns, map(_push, pushes))


def _push(push: PushedImage) -> Sequence[object]:
    parts = [
        joined(f"{part.platform} " if part.platform else "", digest_code(part.digest), " ")
        + f" {amount(part.size)}"
        for part in push.parts
    ]
    size = Cell("gone", "number", 0) if push.size is None else bytes_cell(push.size)
    return (
        time_cell(push.time),
        Cell(", ".join(named(push.image, one) for one in push.references), "words"),
        digest_code(push.digest),
        Cell(f"{push.user or 'somebody'} from {push.client}", "short"),
        agent_cell(push.agent),
        size,
        element("details", element("summary", f"{len(parts)}"), lines(map(Markup, parts)))
        if parts
        else "",
        number_cell(push.pulls),
    )


def _upstreams(report: Summary) -> Markup:
    columns = (
        *("Upstream", "Images pulled", "Manifests fetched", "Pulls saved", "Fetched"),
        *("Served", "Failed", "Limit"),
    )
    rows = (
        (
            use.registry,
            number_cell(use.images),
            number_cell(use.fetched),
            number_cell(max(0, use.images - use.fetched)),
            bytes_cell(use.received),
            bytes_cell(use.sent),
            number_cell(use.failed),
            "none told" if use.limit is None else f"{use.remaining} of {use.limit} are left",
        )
        for use in report.upstreams
    )
    cache = report.cache
    told = (
        f"Of upstreams' content, {cache.get('manifest_hits', 0):,} manifests and "
        f"{cache.get('blob_hits', 0):,} blobs were served from the store, "
        f"{cache.get('manifest_misses', 0):,} and {cache.get('blob_misses', 0):,} were fetched; "
        f"{cache.get('stale', 0):,} answers were stale."
    )
    return joined(element("p", told), table("upstreams-table", "Upstreams", columns, rows))


def _missing(report: Summary) -> Markup:
    columns = ("Time", "Client", "Agent", "Image", "Status", "Times")
    rows = (
        (
            time_cell(one.time),
            one.client,
            agent_cell(one.agent),
            Cell(named(one.image, one.reference), "words"),
            number_cell(one.status),
            number_cell(one.requests),
        )
        for one in report.missing
    )
    return table("missing-table", "Asked for and not served", columns, rows)


def _moved(report: Summary) -> Markup:
    rows = (
        (
            named(one.image, one.tag),
            one.where,
            joined(*(joined(digest_code(digest), " ") for digest in one.digests)),
        )
        for one in report.moved
    )
    return table("moved-table", "Tags that moved", ("Tag", "Where", "Digests, first to last"), rows)


def _nodes(report: Summary) -> Markup:
    rows = (
        (
            node.name,
            node.address,
            number_cell(node.pulls),
            ", ".join(node.agents),
            Cell(node.canary or "none", "bad" if node.canary.startswith("pushed") else ""),
            "; ".join(node.said),
        )
        for node in report.nodes
    )
    columns = ("Node", "Address", "Images pulled", "Clients", "Canary", "What it said")
    return table("nodes-table", "Nodes", columns, rows)
