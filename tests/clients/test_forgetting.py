# SPDX-License-Identifier: Apache-2.0
"""dockerd has no mirror any more once the role has undone its work, and was not restarted."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.clients.commands import run
from tests.clients.proxied import NAMES

_ROLE = Path("roles/use_buildset_registry/module_utils").resolve()


@pytest.mark.parametrize("name", NAMES)
def test_docker_forgets_its_mirror_without_a_restart(folder: Path, name: str) -> None:
    """Its file is what it was, byte for byte. The role signals every dockerd that it sees: one."""
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    place = folder / f"forgetting-{NAMES.index(name)}"
    program = [sys.executable, "-m", "tests.clients.forgetting", name, str(place)]
    path = os.pathsep.join([str(_ROLE), str(Path.cwd())])
    told = json.loads(run(*alone, *program, environment={"PYTHONPATH": path}))
    # The builder of Debian's, which is old, reads them at its start only, and that is said.
    said = ["builds by BuildKit have the mirrors of before"] if name == "docker" else []
    assert [any(one in note for note in told["notes"]) for one in said] == [True] * len(said)
    assert len(told.pop("notes")) == len(said)
    assert told == {
        "mirrors": [],
        "settings as before": True,
        "same process": True,
    }
