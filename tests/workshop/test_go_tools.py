# SPDX-License-Identifier: Apache-2.0
"""Tools written in Go: each is built once, and who needs another does not wait for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
#: Builds crane when oras is built, and notes what it was asked for.
GO = """#!/bin/sh
[ "$1" != env ] || exit 0
tool=${2##*/}
tool=${tool%%@*}
echo "$tool" >>"$LOG"
if [ "$tool" = crane ]; then
    for i in $(seq 300); do [ -e "$GOBIN/oras" ] && break; sleep 0.1; done
    [ -e "$GOBIN/oras" ] || exit 1
fi
[ "$tool" != helm ] || { echo 'no such module' >&2; exit 1; }
sleep 0.3
echo "$tool" >"$GOBIN/$tool"
chmod +x "$GOBIN/$tool"
"""


class Workshop:
    """A cache and a Go of a test's own."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "asked"
        self.bin = folder / "cache" / "go" / "bin"
        program = folder / "path" / "go"
        program.parent.mkdir()
        program.write_text(GO)
        program.chmod(0o755)
        self.environment = os.environ | {
            "BUILDSET_TEST_CACHE": str(folder / "cache"),
            "LOG": str(self.log),
            "PATH": f"{program.parent}:{os.environ['PATH']}",
        }

    def start(self, *tools: str) -> subprocess.Popen[str]:
        """Start to build tools."""
        return subprocess.Popen(
            [TOP / "tools" / "go-tools", *tools],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def asked(self) -> list[str]:
        """Return what Go has been asked for."""
        return sorted(self.log.read_text().split())


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """Nothing is built yet."""
    return Workshop(tmp_path)


def test_who_needs_another_tool_does_not_wait(workshop: Workshop) -> None:
    """The first is built only when the second is there."""
    with workshop.start("crane") as first, workshop.start("oras") as second:
        assert second.wait(60) == 0
        assert first.wait(60) == 0
    assert workshop.asked() == ["crane", "oras"]


def test_a_tool_is_built_once_for_all_that_need_it(workshop: Workshop) -> None:
    """The second waits, and finds it."""
    with workshop.start("oras") as first, workshop.start("oras") as second:
        outputs = [each.communicate(timeout=60)[0] for each in (first, second)]
    assert sorted("built now" in output for output in outputs) == [False, True]
    assert workshop.asked() == ["oras"]


def test_another_version_is_built_anew(workshop: Workshop) -> None:
    """What stands in the cache counts where it is of the version that is wanted."""
    with workshop.start("oras") as first:
        assert first.wait(60) == 0
    (workshop.bin / ".oras").write_text("oras.land/oras/cmd/oras@v0.1.0\n")
    with workshop.start("oras") as second:
        assert "built now" in second.communicate(timeout=60)[0]


def test_a_build_that_fails_says_why(workshop: Workshop) -> None:
    """And leaves nothing that would count as built."""
    with workshop.start("helm") as build:
        _, errors = build.communicate(timeout=60)
    assert build.returncode == 1
    assert "no such module" in errors
    assert not (workshop.bin / ".helm").exists()
