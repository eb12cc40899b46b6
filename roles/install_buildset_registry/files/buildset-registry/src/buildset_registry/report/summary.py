# SPDX-License-Identifier: Apache-2.0
"""The report as values, made of the rows of a ledger; pure.

A row may be damaged, or written by somebody else: a field that is of another kind than expected
counts as empty, and nothing here fails.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from buildset_registry.errors import RegistryError
from buildset_registry.ledger.content import LedgerContent
from buildset_registry.ledger.rows import Row
from buildset_registry.oci.names import RepositoryName
from buildset_registry.report.values import (
    MissedImage,
    MovedTag,
    NodeUse,
    PulledImage,
    PushedImage,
    Summary,
    UpstreamUse,
)

#: The repository of the images that prove that a client uses the registry.
CANARY = "buildset-registry/canary"
#: How a node tells what became of its canary: as the name of who asks for what is not there.
_SAID = re.compile(r"buildset-registry-canary \((.*?)\)?")
_SAID_REFERENCE = "said"
#: Users of a node whose words are told.
_MOST_SAID = 5
#: Tags by which clients look for signatures and referrers; mostly there are none.
_ATTACHED = re.compile(r"sha(256|512)-[0-9a-f]{64,128}(\.\w+)?")
#: Seconds after a client missed something within which it pushes it: it asked in order to push.
_PUSHED_SOON = 600.0
#: Clients of one node that are named: an agent may be any word.
_MOST_AGENTS = 20
#: The largest number that counts as one: what else stands there is damaged.
_LARGEST = 2**63 - 1
#: Kinds of rows that have the time at which they were told last, at the place of the first time.
_TOLD_AGAIN = frozenset({"upstream", "cache"})
#: The kinds of rows that there may be many of, as people call them.
_KINDS = {
    "pull": "pulls",
    "push": "pushes",
    "missing": "names that were asked for and not served",
    "blob": "layers that were asked for alone",
}
#: Seconds by which a clock may be corrected without a word.
_JUMP = 60.0


def summarize(
    content: LedgerContent, registry: str, made: str, known: Mapping[str, str]
) -> Summary:
    """Return the report of a ledger's rows; ``known`` are names of nodes by their addresses."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in content.rows:
        rows[row["kind"]].append(row)
    report = Summary(registry, made)
    times = [row["time"] for row in content.rows]
    report.begun, report.ended = min(times, default=""), max(times, default="")
    report.pushes = [_push(row) for row in rows["push"] if not _is_canary(row)]
    pushers = {(_text(row, "name"), _text(row, "digest")): row for row in rows["push"]}
    report.pulls = [_pull(row, pushers) for row in rows["pull"] if not _is_canary(row)]
    report.missing = _missing(rows["missing"], rows["push"])
    report.cache, report.upstreams = _upstreams(rows, report.pulls)
    report.moved = _moved(report.pulls)
    report.nodes = _nodes(rows, known)
    _count_pulls(report)
    report.unseen = _unseen(report)
    report.gaps = _gaps(content, rows)
    return report


def public_name(name: str) -> str:
    """Return the name by which people know a repository: ``org/app`` is one of ``docker.io``."""
    try:
        parsed = RepositoryName.parse(name)
    except RegistryError:
        return name
    return f"{parsed.host}/{parsed.remote}"


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return value if isinstance(value, str) else ""


def _number(row: Mapping[str, Any], key: str) -> int:
    value: Any = row.get(key)
    known = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST
    return value if known else 0


def _mapping(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = row.get(key)
    return value if isinstance(value, dict) else {}


def _texts(row: Mapping[str, Any], key: str) -> list[str]:
    value = row.get(key)
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _manifests(row: Row) -> list[dict[str, str]]:
    listed = row.get("manifests")
    found = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return [{key: _text(one, key) for key in ("digest", "platform")} for one in found]


def _is_canary(row: Row) -> bool:
    return f"/{_text(row, 'name')}".endswith(f"/{CANARY}")


def _push(row: Row) -> PushedImage:
    return PushedImage(
        time=_text(row, "time"),
        client=_text(row, "client"),
        user=_text(row, "user"),
        agent=_text(row, "agent"),
        image=public_name(_text(row, "name")),
        references=_texts(row, "references"),
        digest=_text(row, "digest"),
        media_type=_text(row, "media_type"),
    )


def _pull(row: Row, pushers: Mapping[tuple[str, str], Row]) -> PulledImage:
    source, moved = _mapping(row, "source"), _mapping(row, "bytes")
    origin = _text(source, "kind") or "unknown"
    pusher = pushers.get((_text(row, "name"), _text(row, "digest")))
    return PulledImage(
        time=_text(row, "time"),
        client=_text(row, "client"),
        user=_text(row, "user"),
        agent=_text(row, "agent"),
        image=public_name(_text(row, "name")),
        asked=_text(row, "asked"),
        reference=_text(row, "reference"),
        digest=_text(row, "digest"),
        media_type=_text(row, "media_type"),
        manifests=_manifests(row),
        origin=origin,
        registry=_text(source, "registry") if origin == "upstream" else "",
        source=_words(origin, source, pusher),
        stale=source.get("stale") is True,
        read=row.get("read") is True,
        requests=_number(row, "requests"),
        store_bytes=_number(moved, "store"),
        upstream_bytes=_number(moved, "upstream"),
    )


def _words(origin: str, source: Mapping[str, Any], pusher: Row | None) -> str:
    """Return where an image came from, in words."""
    if origin == "pushed":
        if pusher is None:
            return "pushed"
        return f"pushed by {_text(pusher, 'user') or 'somebody'} from {_text(pusher, 'client')}"
    if origin == "overlay":
        return f"build {_text(source, 'build')} of change {_text(source, 'change')}"
    if origin == "upstream":
        registry, asked = _text(source, "registry"), _text(source, "asked")
        stale = ", stale" if source.get("stale") is True else ""
        return f"{registry}, asked at {asked[11:19]}{stale}"
    return "unknown"


def seconds(time: str) -> float | None:
    """Return a time of a row in seconds since the epoch; None where it is none."""
    try:
        return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _missing(rows: Iterable[Row], pushes: Iterable[Row]) -> list[MissedImage]:
    """Leave out what a client asked for in order to push it, and signatures that nobody made."""
    pushed: dict[tuple[str, str, str], float] = {}
    for push in pushes:
        for reference in (*_texts(push, "references"), _text(push, "digest")):
            key = _text(push, "client"), _text(push, "name"), reference
            pushed[key] = seconds(_text(push, "time")) or 0.0
    found = []
    for row in rows:
        reference = _text(row, "reference")
        later = pushed.get((_text(row, "client"), _text(row, "name"), reference))
        time = seconds(_text(row, "time")) or 0.0
        asked_first = later is not None and -1 <= later - time < _PUSHED_SOON
        if asked_first or _ATTACHED.fullmatch(reference) or _is_canary(row):
            continue
        found.append(
            MissedImage(
                time=_text(row, "time"),
                client=_text(row, "client"),
                agent=_text(row, "agent"),
                image=public_name(_text(row, "name")),
                reference=reference,
                status=_number(row, "status"),
                requests=_number(row, "requests"),
            )
        )
    return found


def _upstreams(
    rows: Mapping[str, list[Row]], pulls: Iterable[PulledImage]
) -> tuple[dict[str, int], list[UpstreamUse]]:
    """Add up what each start of the server told of its upstreams."""
    found: dict[str, UpstreamUse] = {}
    for row in rows["upstream"]:
        use = found.setdefault(_text(row, "registry"), UpstreamUse(_text(row, "registry")))
        use.received += _number(row, "received")
        use.fetched += _number(row, "pulls")
        requests = _mapping(row, "requests")
        for what in requests:
            status = what.rpartition(" ")[2]
            number = _number(requests, what)
            use.failed += number if status == "failed" or status[:1] == "5" else 0
        limit = _mapping(row, "limit")
        if limit:
            use.limit, use.remaining = _number(limit, "limit"), _number(limit, "remaining")
            use.window = _number(limit, "window")
    for pull in pulls:
        if pull.origin == "upstream":
            use = found.setdefault(pull.registry, UpstreamUse(pull.registry))
            use.images += 1
            use.sent += pull.store_bytes + pull.upstream_bytes
    cache: Counter[str] = Counter()
    for row in rows["cache"]:
        for kind in ("manifest", "blob"):
            cache[f"{kind}_hits"] += _number(_mapping(row, "hits"), kind)
            cache[f"{kind}_misses"] += _number(_mapping(row, "misses"), kind)
        cache["stale"] += _number(row, "stale")
    return dict(cache), sorted(found.values(), key=lambda use: use.registry)


def _moved(pulls: Iterable[PulledImage]) -> list[MovedTag]:
    """Return the tags that clients got several images by."""
    seen: dict[tuple[str, str, str], dict[str, None]] = defaultdict(dict)
    for pull in pulls:
        if ":" not in pull.reference and not _ATTACHED.fullmatch(pull.reference):
            seen[pull.image, pull.reference, pull.origin][pull.digest] = None
    return [
        MovedTag(image, tag, [*digests], origin)
        for (image, tag, origin), digests in seen.items()
        if len(digests) > 1
    ]


def _nodes(rows: Mapping[str, list[Row]], known: Mapping[str, str]) -> list[NodeUse]:
    """Return all addresses that asked, or are known to be nodes.

    A node has several, of which it uses one.
    """
    nodes = {address: NodeUse(address, name) for address, name in known.items()}
    for row in (*rows["pull"], *rows["missing"], *rows["push"], *rows["blob"]):
        address = _text(row, "client")
        node = nodes.setdefault(address, NodeUse(address))
        node.asked |= row["kind"] != "push" or _is_canary(row)
        agent = tool(_text(row, "agent"))
        if row["kind"] == "missing":
            _note_words(node, row)
        elif _is_canary(row):
            _note_canary(node, row, agent)
        elif row["kind"] == "pull":
            node.pulls += 1
            if len(node.agents) < _MOST_AGENTS and agent not in node.agents:
                node.agents.append(agent)
    named = {node.name for node in nodes.values() if node.asked} - {""}
    found = [node for node in nodes.values() if node.asked or node.name not in named]
    return sorted(found, key=lambda node: (node.name, node.address))


def _note_canary(node: NodeUse, row: Row, agent: str) -> None:
    if row["kind"] == "push" and not node.canary:
        node.canary = "pushed, and no client of the node pulled it"
    elif row["kind"] == "pull":
        found = node.canary.removeprefix("found by ").split(", ")
        agents = found if node.canary.startswith("found") else []
        if len(agents) < _MOST_AGENTS:
            node.canary = "found by " + ", ".join(dict.fromkeys([*agents, agent]))


def _note_words(node: NodeUse, row: Row) -> None:
    """Note what a node said of its canary; the last words of each of its users count."""
    found = _SAID.fullmatch(_text(row, "agent"))
    if not (found and _is_canary(row) and _text(row, "reference") == _SAID_REFERENCE):
        return
    # Anybody may ask for a name, but who has no password cannot speak for a node.
    if _text(row, "user"):
        user = _user_of(found[1])
        others = [words for words in node.said if _user_of(words) != user]
        node.said = [*others, found[1]][-_MOST_SAID:]


def _user_of(words: str) -> str:
    return words.partition(": ")[0] if words.startswith("as ") else ""


def tool(agent: str) -> str:
    """Return the name of a client by its user agent: the word before its version."""
    return agent.partition("/")[0].partition(" ")[0] or "no agent"


def _count_pulls(report: Summary) -> None:
    pulls = Counter((pull.image, pull.digest) for pull in report.pulls)
    for push in report.pushes:
        push.pulls = pulls[push.image, push.digest]


def _unseen(report: Summary) -> list[str]:
    """Return what did not happen."""
    found = []
    for node in report.nodes:
        name = f"{node.name} ({node.address})" if node.name else node.address
        if node.name and not node.asked:
            found.append(f"{name} never asked for an image")
        if node.canary.startswith("pushed"):
            found.append(f"the canary of {name} was pushed, and no client there pulled it")
        found += [
            f"the canary of {name} said: {words}"
            for words in node.said
            if not words.removeprefix(f"{_user_of(words)}: ").startswith("found by ")
        ]
    got = {pull.digest for pull in report.pulls}
    got |= {part["digest"] for pull in report.pulls for part in pull.manifests}
    for push in report.pushes:
        if push.digest not in got and not all(":" in one for one in push.references):
            names = ", ".join(f"{push.image}:{one}" for one in push.references)
            found.append(f"{names} was pushed by {push.client} and never pulled")
    return list(dict.fromkeys(found))


def _gaps(content: LedgerContent, rows: Mapping[str, list[Row]]) -> list[str]:
    """Return what the report lacks."""
    found = [f"{problem}; its rows are not here" for problem in content.problems]
    found += [_older(kind, number, rows[kind]) for kind, number in content.older.items()]
    found += [
        f"{_number(row, 'rows')} rows were lost at {_text(row, 'time')}: {_text(row, 'reason')}"
        for row in rows["lost"]
    ]
    if content.broken:
        found.append(f"{content.broken} lines of the ledger could not be read")
    if len(rows["start"]) > 1:
        found.append(f"the registry was started {len(rows['start'])} times")
    if _was_set_back(content):
        found.append("the clock of the registry was set back meanwhile; rows are in their order")
    if not content.rows:
        found.append("the ledger is empty: nobody has asked for anything, or it is turned off")
    return found


def _older(kind: str, number: int, rows: Sequence[Row]) -> str:
    what = _KINDS.get(kind, f"rows of the kind {kind}")
    first = min((row["time"] for row in rows), default="now")
    return f"{number:,} {what} before {first} are in the ledger and not here: they are too many"


def _was_set_back(content: LedgerContent) -> bool:
    """Tell whether times go back; what several servers wrote is in their order already."""
    if content.parallel:
        return False
    times = [seconds(row["time"]) for row in content.rows if row["kind"] not in _TOLD_AGAIN]
    known = [time for time in times if time is not None]
    return any(after < before - _JUMP for before, after in pairwise(known))
