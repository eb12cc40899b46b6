# SPDX-License-Identifier: Apache-2.0
"""The tiers of the test suite, each a session with an environment of its own.

``make test`` runs them all and sums up; ``.venv/bin/nox -s tests -- -k upload`` runs one with what
stands after ``--`` given to pytest.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"

#: The tools want 3.11 or newer; the registry itself runs on 3.10, where .venv may be made of it.
PYTHON = None if sys.version_info >= (3, 11) else "3.11"
PAYLOAD = "registry/src/buildset_registry"
CACHE = Path(
    os.environ.get("BUILDSET_TEST_CACHE", Path.home() / ".cache" / "buildset-registry-tests")
)


def install(session: nox.Session, *locks: str, payload: bool = False) -> None:
    """Install what the lock files name, and the registry from this checkout."""
    for lock in locks:
        session.install("--quiet", "--requirements", f"requirements/{lock}.txt")
    if payload:
        session.install("--quiet", "--no-deps", "--editable", "registry")


def pytest(session: nox.Session, *paths: str, report: str = "pytest") -> None:
    """Run pytest on paths, leaving a report to be counted."""
    xml = Path("build", "reports", session.name, f"{report}.xml")
    session.run("python", "-m", "pytest", f"--junitxml={xml}", *paths, *session.posargs)


@nox.session(python=PYTHON)
def lint(session: nox.Session) -> None:
    """Check the style of every kind of file."""
    install(session, "lint")
    session.run("ruff", "format", "--check", "--diff", ".")
    session.run("ruff", "check", ".")
    session.run("yamllint", "--strict", ".")
    session.run("ansible-lint", "--offline")
    session.run("codespell")
    session.run("doc8", "--quiet", "README.rst", "CONTRIBUTING.rst", "docs", "registry/README.rst")
    session.run("validate-pyproject", "registry/pyproject.toml", "pyproject.toml")
    session.run("reuse", "lint", "--lines")
    session.run("antsibull-changelog", "lint")


@nox.session(python=PYTHON)
def types(session: nox.Session) -> None:
    """Check the types of the registry, of its tests and of the workshop's scripts."""
    install(session, "test", payload=True)
    session.run("mypy", PAYLOAD)
    session.run("mypy", "noxfile.py", "tools", "tests")


@nox.session(python=PYTHON)
def architecture(session: nox.Session) -> None:
    """Check who imports whom, and how large things are."""
    install(session, "test", payload=True)
    session.run("lint-imports")
    pytest(session, "tests/architecture")


@nox.session(python=PYTHON)
def documentation(session: nox.Session) -> None:
    """Build the documentation, and check that it leaves nothing out."""
    install(session, "docs", "test", payload=True)
    session.run("sphinx-build", "-W", "-n", "--keep-going", "-b", "html", "docs", "build/docs")
    pytest(session, "tests/documentation")
