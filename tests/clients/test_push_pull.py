# SPDX-License-Identifier: Apache-2.0
"""Every client pushes, and every other one pulls the same."""

from __future__ import annotations

import pytest

from tests.clients import tools
from tests.clients.conftest import Trial
from tests.clients.images import Kind

PUSHES = [(pusher, kind) for pusher, kinds in tools.PUSHES.items() for kind in kinds]


@pytest.mark.parametrize(("pusher", "kind"), PUSHES)
def test_pushed_by_one_pulled_by_all(trial: Trial, pusher: str, kind: Kind) -> None:
    """What one client pushes, all pull without a login, with the same digests."""
    name = f"org/{pusher}:{kind.name.lower()}"
    pushed = trial.push(pusher, kind, name)
    trial.ledger.note(pusher, "pushed", kind.value)
    pulled = {}
    for puller in trial.clients.values():
        if kind in puller.pulls:
            pulled[puller.name] = trial.pull(puller.name, name)
            trial.ledger.note(puller.name, "pulled without a login", kind.value)
    assert {one.digest for one in pulled.values()} == {pushed}, pulled
    assert len({one.config for one in pulled.values()}) == 1, pulled
