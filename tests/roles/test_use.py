# SPDX-License-Identifier: Apache-2.0
"""The role that makes a node use a registry, from a part of a checkout; nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.roles.conftest import MakeDesk
from tests.use.places import FACTS, LOGIN

ROLE = "use_buildset_registry"


@pytest.mark.parametrize("version", ["2.16", "2.18", "newest"])
def test_check_mode_from_a_part_of_a_checkout(
    make_desk: MakeDesk, clone: Path, version: str
) -> None:
    """The module's working code is found, and the differences tell no password."""
    desk = make_desk(version)
    desk.roles = clone / "roles"
    run = desk.role(ROLE, "--check", "--diff", "-vvv", buildset_registry=FACTS)
    assert run.code == 0, run.output
    assert run.recap["changed"] == 1
    assert "999-buildset-registry.conf" in run.output
    assert FACTS["password"] not in run.output
    assert LOGIN not in run.output


def test_a_missing_registry_is_refused(make_desk: MakeDesk) -> None:
    """The error says what to do."""
    run = make_desk().role(ROLE, "--check")
    assert run.code != 0
    assert "run the role run_buildset_registry first" in run.message


def test_error_of_the_module_is_the_roles(make_desk: MakeDesk) -> None:
    """One line, without the password."""
    run = make_desk().role(
        ROLE, "--check", buildset_registry=FACTS, buildset_registry_clients=["tin-can"]
    )
    assert run.code != 0
    assert run.message.startswith("value of buildset_registry_clients must be one or more of: ")
    assert run.message.endswith("Got no match for: tin-can")
    assert FACTS["password"] not in run.output


def test_a_fact_of_another_type_is_named(make_desk: MakeDesk) -> None:
    """As it is written, not as the module's option."""
    run = make_desk().role(ROLE, "--check", buildset_registry={**FACTS, "port": "pull"})
    assert run.code != 0
    assert run.message.startswith("argument 'buildset_registry.port' is of type ")
