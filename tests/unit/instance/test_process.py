# SPDX-License-Identifier: Apache-2.0
"""A registry in a process of its own, which may not end."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from buildset_registry.errors import ConfigError
from buildset_registry.instance.paths import InstancePaths
from buildset_registry.instance.process import ProcessSupervisor


def test_a_process_that_waits_for_its_disk_is_not_called_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``down --purge`` would remove its files."""
    sent: list[int] = []
    monkeypatch.setattr(ProcessSupervisor, "pid", lambda _self: 4711)
    monkeypatch.setattr("os.killpg", lambda _pid, number: sent.append(number))
    with pytest.raises(ConfigError, match=r"\(process 4711\) does not end"):
        ProcessSupervisor(InstancePaths(tmp_path)).stop(0.02)
    assert sent == [signal.SIGTERM, signal.SIGKILL]
