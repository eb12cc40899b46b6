# SPDX-License-Identifier: Apache-2.0
"""Years that pass for the files of a registry that does not run."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

DAY = 86400.0


def grow_old(storage: Path, days: float) -> None:
    """Let everything have been pushed and used so long ago, and the registry have run since."""
    then = time.time() - days * DAY
    for path in storage.rglob("link"):
        os.utime(path, (then, then))
    rules, clock = (storage / "documents" / "retention" / name for name in ("rules", "clock"))
    rules.write_text(json.dumps(json.loads(rules.read_text()) | {"since": then}))
    clock.write_text(json.dumps(json.loads(clock.read_text()) | {"recorded": then}))
