# SPDX-License-Identifier: Apache-2.0
"""The report as plain text; what clients chose cannot move the cursor or turn a line around."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from buildset_registry.report.html import visible
from buildset_registry.report.summary import tool
from buildset_registry.report.values import PulledImage, PushedImage, Summary, UpstreamUse

#: Rows of a list that are shown; JSON and HTML have all.
_SHOWN = 200
#: Characters of a digest that tell images apart.
_DIGEST = 19


def as_text(report: Summary) -> str:
    """Return the report for a terminal or a log."""
    lines = [
        f"registry {report.registry}, {report.begun or 'nothing yet'} to {report.ended or 'now'}",
        f"{len(report.pulls)} images pulled, {len(report.pushes)} pushed, "
        f"{len(report.missing)} asked for and not served",
    ]
    for title, found in (
        ("pushed", map(_push, report.pushes)),
        ("pulled", map(_pull, report.pulls)),
        ("upstreams", map(upstream_words, report.upstreams)),
        ("asked for and not served", _missing(report)),
        ("tags that moved", _moved(report)),
        ("nodes", _nodes(report)),
        ("not seen", report.unseen),
        ("what this report lacks", report.gaps),
    ):
        lines += _section(title, [*found])
    return "\n".join(map(visible, lines))


def _section(title: str, found: Sequence[str]) -> Iterable[str]:
    if not found:
        return []
    more = len(found) - _SHOWN
    rest = [f"  ... and {more:,} more; --json and --html have all"] if more > 0 else []
    return ["", f"{title}:", *(f"  {line}" for line in found[:_SHOWN]), *rest]


def named(image: str, reference: str) -> str:
    """Return an image's name with its tag or digest."""
    return f"{image}@{reference}" if ":" in reference else f"{image}:{reference}"


def amount(size: int) -> str:
    """Return a number of bytes that people can read."""
    value: float = size
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"


def _push(push: PushedImage) -> str:
    names = ", ".join(named(push.image, one) for one in push.references)
    size = "" if push.size is None else f", {amount(push.size)} in {len(push.parts)} parts"
    return (
        f"{push.time} {names} {push.digest[:_DIGEST]}{size}, by {push.user or '-'} from "
        f"{push.client} ({tool(push.agent)}), pulled {push.pulls} times"
    )


def _pull(pull: PulledImage) -> str:
    platforms = " ".join(
        f"{one['platform'] or 'manifest'} {one['digest'][:_DIGEST]}"
        for one in pull.manifests
        if one["digest"] != pull.digest
    )
    return (
        f"{pull.time} {pull.client} {tool(pull.agent)} "
        f"{named(pull.image, pull.reference)} {pull.digest[:_DIGEST]}"
        f"{f' ({platforms})' if platforms else ''}: {pull.source}; "
        f"{amount(pull.store_bytes)} from the store, {amount(pull.upstream_bytes)} from upstream"
        f"{'' if pull.read else '; asked by HEAD alone'}"
    )


def upstream_words(use: UpstreamUse) -> str:
    """Return what was asked of an upstream, what that saved, and what is left."""
    left = "" if use.limit is None else f"; {use.remaining} of {use.limit} pulls are left"
    saved = max(0, use.images - use.fetched)
    return (
        f"{use.registry}: {use.images} images pulled, {use.fetched} manifests fetched, "
        f"{saved} pulls saved; {amount(use.received)} fetched, {amount(use.sent)} served"
        f"{f'; {use.failed} requests failed' if use.failed else ''}{left}"
    )


def _missing(report: Summary) -> Iterator[str]:
    for one in report.missing:
        yield (
            f"{one.time} {one.client} {tool(one.agent)} {named(one.image, one.reference)}: "
            f"{one.status}, {one.requests} times"
        )


def _moved(report: Summary) -> Iterator[str]:
    for one in report.moved:
        digests = ", then ".join(digest[:_DIGEST] for digest in one.digests)
        yield f"{named(one.image, one.tag)} ({one.where}): {digests}"


def _nodes(report: Summary) -> Iterator[str]:
    for node in report.nodes:
        name = f"{node.name} ({node.address})" if node.name else node.address
        agents = f" by {', '.join(node.agents)}" if node.agents else ""
        canary = f"; canary {node.canary}" if node.canary else ""
        said = f"; it said: {'; '.join(node.said)}" if node.said else ""
        yield f"{name}: {node.pulls} images{agents}{canary}{said}"
