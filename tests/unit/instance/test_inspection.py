# SPDX-License-Identifier: Apache-2.0
"""What of a registry needs a look, of what was seen of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from buildset_registry.instance.inspection import Inspection, findings

NOW = 1_800_000_000.0
DAY = 24 * 3600
OWN = Path("/srv/registry/server.pem")
COLLECTOR: dict[str, Any] = {
    "interval": 3600,
    "ended": None,
    "error": None,
    "broken": 0,
    "problems": [],
}
LIMIT = {"limit": 100, "remaining": 50, "window": 21600, "told": NOW - 60}


def process(**changed: Any) -> dict[str, Any]:
    """Return what a process tells that is well, but for what is changed."""
    told = {"host": "one", "pid": 7, "version": "1.0", "started": NOW - 60, "told": NOW - 1}
    return {**told, "collector": COLLECTOR, "upstreams": {}, **changed}


def collector(**changed: Any) -> dict[str, Any]:
    """Return a process whose collections are as they are told."""
    return process(started=NOW - 30 * DAY, collector={**COLLECTOR, "ended": NOW - 60, **changed})


def certificate(
    ends: float | None, file: Path = OWN, begins: float = NOW - 200 * DAY
) -> dict[str, Any]:
    return {"certificate": {"file": str(file), "begins": begins, "ends": ends}}


def storage(free: int | None, size: int | None, problem: str | None = None) -> dict[str, Any]:
    return {"storage": {"problem": problem, "free_bytes": free, "size_bytes": size}}


def limited(**changed: Any) -> dict[str, Any]:
    return {"processes": [process(upstreams={"docker.io": {**LIMIT, **changed}})]}


@pytest.mark.parametrize(
    "seen",
    [
        {},
        certificate(NOW + 31 * DAY),
        certificate(NOW + 15 * DAY, Path("/etc/site.pem")),
        certificate(NOW + 2 * DAY, Path("/etc/site.pem"), NOW - 4 * DAY),
        storage(11, 100),
        storage(None, None),
        {"processes": [process()]},
        {"processes": [process(), process(host="two")]},
        {"processes": [process(retention="a"), process(host="two", retention="a")]},
        # Of another version, or one that has ended.
        {"processes": [process(retention="a"), process(host="two")]},
        {"processes": [process(retention=None), process(host="two", retention=None)]},
        {"processes": [collector()]},
        {"processes": [process(started=NOW - 2 * 3600)]},
        {"processes": [collector(interval=0, ended=None)]},
        # One of two replicas collects for both.
        {"processes": [collector(), process(started=NOW - 30 * DAY)]},
        limited(),
        limited(remaining=0, told=NOW - 21601),
    ],
)
def test_what_is_well_needs_no_look(seen: dict[str, Any]) -> None:
    """Otherwise nobody reads the lines any more."""
    assert findings(Inspection(**seen), OWN, NOW) == []


@pytest.mark.parametrize(
    ("seen", "subject", "words"),
    [
        (certificate(NOW + 29 * DAY), "certificate", "ends on 2027-02-13 08:00 UTC; run build"),
        (certificate(NOW - 1), "certificate", "ended on 2027-01-15 07:59 UTC; run buildset"),
        (certificate(NOW + 13 * DAY, Path("/x.pem")), "certificate", "put the new one and its key"),
        (
            certificate(NOW + 1 * DAY, Path("/x.pem"), NOW - 5 * DAY),
            "certificate",
            "the certificate ends on 2027-01-16 08:00 UTC; put",
        ),
        (
            certificate(NOW + 3650 * DAY, begins=NOW + 300 * DAY),
            "certificate",
            "is good from 2027-11-11 08:00 UTC on, by this clock; run buildset-registry up",
        ),
        (certificate(None), "certificate", "server.pem holds no certificate that can be read"),
        (storage(9, 100), "storage", "9 % of the disk are free; remove images"),
        (storage(0, 100, "the disk is full"), "storage", "the disk is full; pushes are refused"),
        ({"processes": [process(told=NOW - 400)]}, "replicas", "process 7 of one has told nothing"),
        (
            {"processes": [process(), process(version="1.1")]},
            "replicas",
            "versions 1.0, 1.1; finish the upgrade",
        ),
        (
            {"processes": [collector(error="OSError: gone")]},
            "collector",
            "broke off: OSError: gone",
        ),
        (
            {"processes": [collector(broken=3, problems=["manifest app@sha256:1 is damaged"])]},
            "collector",
            "is damaged (and 2 more); no blobs go: run buildset-registry verify",
        ),
        ({"processes": [collector(ended=NOW - 4 * 3600)]}, "collector", "nothing was collected"),
        ({"processes": [process(started=NOW - 4 * 3600)]}, "collector", "nothing was collected"),
        (
            {
                "processes": [
                    collector(ended=NOW - 900, attention=["the images of old take 2 bytes"]),
                    collector(attention=["the images of sandbox take 91 bytes"]),
                ]
            },
            "retention",
            "the images of sandbox take 91",
        ),
        (
            {"processes": [process(retention=one, host=one) for one in ("b", "a", "b")]},
            "retention",
            "the settings of retention differ: a; b; nothing is removed by rules until",
        ),
        (
            {"processes": [process(retention="a"), process(retention=None, host="two")]},
            "retention",
            "are those of one, and two has none; nothing is removed by rules until",
        ),
        (limited(remaining=19), "upstreams", "docker.io lets 19 of 100 more pulls through"),
        (
            limited(remaining=0, window=0, told=0),
            "upstreams",
            "set credentials for it, or a mirror",
        ),
    ],
)
def test_what_is_wrong_is_one_line_that_says_what_to_do(
    seen: dict[str, Any], subject: str, words: str
) -> None:
    """Of one subject each."""
    (found,) = findings(Inspection(**seen), OWN, NOW)
    assert found.subject == subject
    assert words in found.message
    assert "\n" not in found.message
