# SPDX-License-Identifier: Apache-2.0
"""Show what the suite counted at the end of the log."""

from __future__ import annotations

import pytest

from tests.stores.fixtures import object_stores as object_stores


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line for each run of the suite."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                terminalreporter.write_sep("=", f"{name}: {value}")
