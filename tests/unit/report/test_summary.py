# SPDX-License-Identifier: Apache-2.0
"""The report says what the ledger's rows say, and what they do not say."""

from __future__ import annotations

import time
from typing import Any

from buildset_registry.ledger.content import LedgerContent
from buildset_registry.ledger.rows import KINDS, Row, stamp
from buildset_registry.report.page import as_page
from buildset_registry.report.summary import public_name, summarize
from buildset_registry.report.text import as_text
from buildset_registry.report.values import Summary
from hypothesis import given, settings
from hypothesis import strategies as st

DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
NODE, SECOND = "10.0.0.1", "10.0.0.2"


def row(kind: str, number: int = 0, **values: object) -> Row:
    """Return a row as a server writes it."""
    asked = {"client": NODE, "user": None, "agent": "docker/20.10 go/1.19", "name": "quay.io/o/app"}
    return {"kind": kind, "id": f"b-{kind}-{number}", "time": stamp(number), **asked, **values}


def pull(number: int = 0, **values: object) -> Row:
    """Return the row of a pull."""
    told = {"reference": "1.0", "digest": DIGEST, "source": {"kind": "pushed"}, "read": True}
    numbers = {"bytes": {"store": 10, "upstream": 5}, "manifests": [], "requests": 2}
    return row("pull", number, **(told | numbers | values))


def push(number: int = 0, **values: object) -> Row:
    """Return the row of a push."""
    told = {"references": ["1.0"], "digest": DIGEST, "user": "buildset", "client": SECOND}
    return row("push", number, **(told | values))


def report(*rows: Row, known: dict[str, str] | None = None, **content: Any) -> Summary:
    """Return the report on rows."""
    return summarize(LedgerContent([*rows], **content), "registry", "now", known or {})


def test_a_pull_names_who_pushed_the_image() -> None:
    """By the digest, whatever the tag meant since."""
    made = report(push(1), pull(2))
    assert made.pulls[0].source == f"pushed by buildset from {SECOND}"
    assert made.pushes[0].pulls == 1
    assert made.pulls[0].image == "quay.io/o/app"


def test_docker_hub_has_its_name() -> None:
    """As people write it, not as it is stored."""
    names = {"app": "docker.io/library/app", "o/app": "docker.io/o/app", "ghcr.io/a/b": ""}
    assert [public_name(name) for name in names] == [*filter(None, names.values()), "ghcr.io/a/b"]


def test_what_is_asked_for_in_order_to_push_is_not_missing() -> None:
    """Nor are signatures that nobody made; what another client lacks is."""
    missing = {"reference": "1.0", "status": 404, "requests": 1}
    first = row("missing", 1, **missing, client=SECOND)
    signature = row("missing", 2, reference=f"sha256-{'a' * 64}.sig", status=404)
    made = report(first, signature, push(5), row("missing", 3, **missing))
    assert [(one.client, one.reference) for one in made.missing] == [(NODE, "1.0")]


def test_what_was_not_seen_is_said() -> None:
    """A node that never asked, an image that nobody pulled, a canary that nobody found."""
    canary = {"name": "quay.io/buildset-registry/canary"}
    made = report(
        push(1),
        row("push", 2, **canary, references=["x"], digest=OTHER),
        known={"10.0.0.9": "web"},
    )
    assert made.unseen == [
        f"the canary of {NODE} was pushed, and no client there pulled it",
        "web (10.0.0.9) never asked for an image",
        f"quay.io/o/app:1.0 was pushed by {SECOND} and never pulled",
    ]


def test_a_node_with_several_addresses_asks_by_one() -> None:
    """The others are no nodes that never asked."""
    made = report(pull(1), known={NODE: "web", "192.0.2.1": "web", "192.0.2.2": "db"})
    assert made.unseen == ["db (192.0.2.2) never asked for an image"]
    assert [node.name for node in made.nodes] == ["db", "web"]


def test_many_images_that_nobody_pulled_are_found_at_once() -> None:
    """A report of ten thousand pushes and as many pulls takes no minutes."""
    pushes = [push(n, digest=f"sha256:{n:064x}", name=f"o/a{n}") for n in range(10_000)]
    made = report(*pushes, *(pull(n, digest=f"sha256:{n:063x}f") for n in range(10_000)))
    assert len(made.unseen) > 9_000


def test_a_canary_that_was_found_names_its_clients() -> None:
    """Each client of the node once, and it is no image of the job."""
    canary = {"name": "quay.io/buildset-registry/canary"}
    rows = [pull(number, **canary, agent=agent) for number, agent in enumerate(["a/1", "b", "a/2"])]
    made = report(row("push", 9, **canary, references=["x"], digest=OTHER), *rows)
    assert made.nodes[0].canary == "found by a, b"
    assert not made.pulls and not made.unseen


def test_a_node_s_own_words_on_its_canary_are_told() -> None:
    """The last ones of each of its users; who has no password cannot speak for it."""
    canary = {"name": "buildset-registry/canary", "reference": "said", "status": 404}

    def said(number: int, words: str, user: str | None = "buildset") -> Row:
        agent = f"buildset-registry-canary ({words})"
        return row("missing", number, **canary, agent=agent, user=user)

    fault = "podman, docker.io: TLS: a certificate (of 2020) is stale"
    made = report(
        said(1, fault),
        said(2, "found by podman, docker"),
        said(3, f"as labuser: {fault}"),
        said(4, "found by everybody", user=None),
        row("missing", 5, **canary, agent="podman/4", user="buildset"),
    )
    (node,) = made.nodes
    assert node.said == ["found by podman, docker", f"as labuser: {fault}"]
    assert made.unseen == [f"the canary of {NODE} said: as labuser: {fault}"]
    assert made.missing == []
    assert "found by podman, docker" in as_text(made) and "(of 2020)" in as_page(made)


def test_a_tag_that_moved_is_named() -> None:
    """With its digests in their order."""
    source = {"kind": "upstream", "registry": "quay.io", "asked": stamp(1)}
    made = report(
        *(pull(n, digest=d, source=source) for n, d in enumerate([DIGEST, OTHER, DIGEST]))
    )
    (moved,) = made.moved
    assert (moved.tag, moved.digests, moved.where) == ("1.0", [DIGEST, OTHER], "upstream")


def test_a_number_that_none_can_be_counts_as_none() -> None:
    """A line may be damaged."""
    made = report(pull(bytes={"store": 10**400, "upstream": 5}))
    assert (made.pulls[0].store_bytes, made.pulls[0].upstream_bytes) == (0, 5)
    assert as_text(made) and as_page(made)


def test_an_image_that_is_called_like_the_canary_is_told_of() -> None:
    """It is one of somebody's."""
    names = ("quay.io/evilbuildset-registry/canary", "quay.io/buildset-registry/canary")
    made = report(*(pull(number, name=name) for number, name in enumerate(names)))
    assert [one.image for one in made.pulls] == [names[0]]


def test_a_tag_that_begins_like_a_digest_is_a_tag() -> None:
    """``sha-1a2b3c`` is what CI systems name images of a commit."""
    source = {"kind": "upstream", "registry": "quay.io"}
    made = report(
        *(pull(0, reference=tag, source=source) for tag in ("sha-1a2b", "shared")),
        *(pull(1, reference=tag, source=source, digest=OTHER) for tag in ("sha-1a2b", "shared")),
        *(
            pull(2, reference=f"sha256-{'a' * 64}", source=source, digest=one)
            for one in (DIGEST, OTHER)
        ),
        *(pull(3, reference=DIGEST, source=source, digest=one) for one in (DIGEST, OTHER)),
    )
    assert [one.tag for one in made.moved] == ["sha-1a2b", "shared"]


def test_agents_and_digests_without_end_make_a_report_at_once() -> None:
    """A client may call itself something else each time, and a tag may move each time."""
    canary = {"name": "quay.io/buildset-registry/canary"}
    rows = []
    for number in range(20_000):
        agent = {"agent": f"agent{number}"}
        rows.append(pull(number, digest=f"sha256:{number:064x}", **agent))
        rows.append(pull(number, **agent, **canary))
    began = time.process_time()
    made = report(*rows)
    assert time.process_time() - began < 5
    (node,) = made.nodes
    assert len(node.agents) == 20 and node.agents[0] == "agent0"
    assert len(node.canary.split(", ")) == 20
    assert len(made.moved[0].digests) == 20_000


def test_upstreams_are_added_up_over_restarts() -> None:
    """Each start of the server counts from zero; the limit is the one told last."""
    limit = {"limit": 100, "remaining": 7, "window": 21600}
    source = {"kind": "upstream", "registry": "quay.io", "asked": stamp(1), "stale": True}
    made = report(
        row("upstream", 1, registry="quay.io", requests={"GET 200": 3}, received=5, pulls=1),
        row("upstream", 2, registry="quay.io", requests={"HEAD failed": 2}, pulls=1, limit=limit),
        *(pull(number, source=source) for number in range(5)),
    )
    (use,) = made.upstreams
    assert (use.images, use.fetched, use.received, use.failed, use.remaining) == (5, 2, 5, 2, 7)
    assert made.pulls[0].stale and made.pulls[0].source.endswith("stale")


def test_what_the_report_lacks_is_said() -> None:
    """Lost rows, broken lines, unreadable files, restarts and a clock that was set back."""
    made = report(
        row("start", 500),
        row("start", 100),
        row("lost", 101, rows=7, reason="it could not be written: No space left on device"),
        broken=2,
        problems=["ledger-000001.jsonl: Permission denied"],
    )
    assert made.gaps == [
        "ledger-000001.jsonl: Permission denied; its rows are not here",
        f"7 rows were lost at {stamp(101)}: it could not be written: No space left on device",
        "2 lines of the ledger could not be read",
        "the registry was started 2 times",
        "the clock of the registry was set back meanwhile; rows are in their order",
    ]
    assert "empty" in report().gaps[0]


def test_numbers_that_grow_while_images_are_pulled_set_no_clock_back() -> None:
    """Their rows are at the place where they were told first, with the time of the last."""
    numbers = [row("cache", 5000, hits={"blob": 1}), row("upstream", 5000, registry="quay.io")]
    assert report(row("start", 1), *numbers, pull(2), pull(4000)).gaps == []


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
KEYS = st.sampled_from(
    [
        *("client", "user", "agent", "name", "reference", "references", "digest", "source"),
        *("bytes", "manifests", "requests", "limit", "hits", "received", "rows", "status"),
    ]
)
ROWS = st.builds(
    lambda kind, values: row(kind) | values,
    st.sampled_from(sorted(KINDS)),
    st.dictionaries(KEYS, JUNK, max_size=5),
)


@given(st.lists(ROWS, max_size=4))
@settings(max_examples=60, deadline=None)
def test_rows_of_any_content_make_a_report(rows: list[Row]) -> None:
    """A file that somebody else wrote is no reason for a traceback."""
    made = report(*rows)
    assert as_text(made) and as_page(made) and made.to_json()
