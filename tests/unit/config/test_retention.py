# SPDX-License-Identifier: Apache-2.0
"""The section of retention: rules that can be meant, and a line for each that cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from buildset_registry.config import RetentionSettings, parse
from buildset_registry.errors import ConfigError


def parsed(**retention: Any) -> RetentionSettings:
    tree = {"endpoints": {"single": {"port": 5000}}, "storage": "memory", "retention": retention}
    found = parse(tree, "config.yaml", Path("/etc/registry")).retention
    assert found is not None
    return found


def test_times_are_words_or_seconds() -> None:
    """The rest has defaults."""
    rules = [
        {"tags": ["{uuid}_*"], "keep_pulled_within": "7d", "keep_pushed_within": "2w"},
        {"repositories": ["docker.io/org/*"], "keep_pulled_within": 90, "keep_last": 3},
        {"name": "releases", "tags": ["v*"], "protect": True},
    ]
    found = parsed(rules=rules, delay="12h")
    assert found.delay == 12 * 3600
    assert found.rules[0].keep_pulled_within == 7 * 86400
    assert found.rules[0].keep_pushed_within == 14 * 86400
    assert found.rules[0].repositories == ("**",)
    assert (found.rules[1].keep_pulled_within, found.rules[1].tags) == (90, ("*",))
    assert (found.rules[2].name, found.rules[2].protect) == ("releases", True)
    assert parsed().delay == 86400


@pytest.mark.parametrize(
    ("retention", "message"),
    [
        ({"rules": [{"tags": ["*"]}]}, "keeps nothing"),
        ({"rules": [{"keep_last": 0}]}, "keeps nothing"),
        ({"rules": [{"keep_pulled_within": "0d"}]}, "keeps nothing"),
        ({"rules": [{"protect": True, "keep_last": 3}]}, "contradicts itself"),
        ({"rules": [{"tags": [], "keep_last": 3}]}, "matches nothing"),
        ({"rules": [{"tags": ["a b"], "keep_last": 3}]}, r"rules\[0\].tags\[0\]: 'a b' matches"),
        ({"rules": [{"keep_pulled_within": "7 days"}]}, "must be a time such as 12h, 7d or 2w"),
        ({"rules": [{"keep_pulled_within": True}]}, "must be a time"),
        ({"rules": [{"keep_pulled_within": -1}]}, "must be a time"),
        ({"rules": [{"keep_pulled_within": "999999999w"}]}, "must be a time"),
        ({"rules": [{"name": "a", "keep_last": 1}] * 2}, "two rules of the name a"),
        ({"quotas": [{"prefix": "org"}]}, "limits nothing"),
        ({"quotas": [{"prefix": "org", "soft": 2, "hard": 1}]}, "soft 2 above hard 1"),
        ({"quotas": [{"prefix": "org", "hard": 1}] * 2}, "two quotas of org"),
        ({"quotas": [{"prefix": "/org", "hard": 1}]}, "matches no repository"),
        ({"keep": 1}, "unknown key retention.keep"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(retention: Any, message: str) -> None:
    """In one line, at the start."""
    with pytest.raises(ConfigError, match=message) as caught:
        parsed(**retention)
    assert "\n" not in str(caught.value)
