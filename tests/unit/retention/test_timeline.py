# SPDX-License-Identifier: Apache-2.0
"""Time as retention counts it, whatever the clock says."""

from __future__ import annotations

import pytest
from buildset_registry.retention.timeline import Timeline

from tests.unit.retention.ages import DAY

YEAR = 365 * DAY
START = 50 * YEAR


def run(timeline: Timeline, *hours: float) -> Timeline:
    """Let a registry give a sign at each of these times, in hours since the start."""
    for one in hours:
        timeline, _message = timeline.observe(START + one * 3600)
    return timeline


def test_the_age_of_what_was_there_while_the_registry_ran_is_what_the_clock_says() -> None:
    """A restart of minutes is none of retention's business."""
    timeline = run(Timeline(START, START), 1, 2, 20, 30)
    assert timeline.age(START + 31 * 3600, START) == 31 * 3600
    assert timeline.jumped is None


def test_a_year_that_the_clock_jumps_ahead_does_not_count() -> None:
    """Everything would look unused; what is pushed afterwards ages as ever."""
    before = run(Timeline(START, START), 1, 2)
    timeline, message = before.observe(START + YEAR)
    assert "does not count" in message
    assert timeline.age(START + YEAR + 60, START) == pytest.approx(2 * 3600 + 60)
    assert timeline.age(START + YEAR + DAY, START + YEAR) == DAY


def test_a_clock_that_is_set_right_again_makes_nothing_older() -> None:
    """After a year too far; what was pushed by the wrong clock counts as new."""
    wrong = run(Timeline(START, START), 1, YEAR / 3600, YEAR / 3600 + 1)
    timeline, message = wrong.observe(START + 3 * 3600)
    assert "went back" in message
    now = START + 5 * 3600
    assert timeline.age(now, START) <= 5 * 3600
    assert timeline.age(now, START + YEAR) == 0


def test_what_was_pushed_while_the_clock_was_a_year_late_is_new() -> None:
    """After the clock was set right, its year does not count."""
    late = run(Timeline(START, START), 1, -YEAR / 3600, -YEAR / 3600 + 5)
    timeline = run(late, 10)
    now = START + 10 * 3600 + 60
    assert timeline.age(now, START - YEAR + 3600) == 60
    assert timeline.age(now, START) == 60
    assert timeline.age(now, START - 2 * YEAR) >= YEAR - 3 * 3600


def test_two_jumps_in_turn_lose_no_gap() -> None:
    """Replicas of which one has a wrong clock write by turns."""
    timeline = run(Timeline(START, START), 1, YEAR / 3600, 2, YEAR / 3600 + 1, 3)
    assert timeline.age(START + 3 * 3600, START) <= 3 * 3600
    ahead = run(timeline, YEAR / 3600 + 2)
    assert ahead.age(START + YEAR + 2 * 3600, START) <= 5 * 3600


def test_many_gaps_stay_few() -> None:
    """A registry that runs on Mondays only."""
    timeline = run(Timeline(START, START), *(168 * week for week in range(1, 200)))
    assert len(timeline.gaps) <= 50
    assert timeline.age(START + 200 * 7 * DAY, START) <= 7 * DAY


def test_a_timeline_is_kept_as_text() -> None:
    """What is broken is none."""
    timeline = run(Timeline(START, START), 1, 300, -300)
    assert Timeline.from_json(timeline.to_json()) == timeline
    for broken in (b"", b"[]", b"{}", b'{"recorded": NaN}', timeline.to_json()[:-5]):
        assert Timeline.from_json(broken) is None
    assert Timeline.from_json(timeline.to_json().replace(b'"last": ', b'"last": NaN')) is None
