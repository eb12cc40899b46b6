# SPDX-License-Identifier: Apache-2.0
"""The table of stores, what commands are told by it, and the size of the contract."""

import ast
import inspect
from pathlib import Path

import pytest
from buildset_registry.errors import ConfigError
from buildset_registry.store import STORES, Purpose, base, open_store, store_kind

from tests.stores.fixtures import ObjectStores
from tests.unit.store.kinds import CONFIGURED

#: Methods of a protocol that one can still keep in mind.
MOST_METHODS = 5


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def test_every_kind_of_store_is_tested_by_the_contract() -> None:
    """A row of the table without a parameter of the tests fails here."""
    assert set(STORES) == {kind.partition("-")[0] for kind in CONFIGURED}


@pytest.mark.parametrize("kind", CONFIGURED)
def test_the_configuration_names_the_kind_of_store(
    kind: str, tmp_path: Path, object_stores: ObjectStores
) -> None:
    """Each is found by what ``storage`` is."""
    config = CONFIGURED[kind](tmp_path, object_stores)
    assert store_kind(config) is STORES[kind.partition("-")[0]]


@pytest.mark.parametrize("purpose", [Purpose.READ, Purpose.COLLECT])
@pytest.mark.parametrize(
    ("kind", "message"), [("filesystem", "has stored nothing yet"), ("memory", "in memory")]
)
async def test_commands_open_nothing_that_no_server_has_made(
    kind: str, message: str, purpose: Purpose, tmp_path: Path, object_stores: ObjectStores
) -> None:
    """They say so in one line, and make nothing."""
    config = CONFIGURED[kind](tmp_path, object_stores)
    with pytest.raises(ConfigError, match=message):
        await open_store(config, purpose)
    assert files_in(tmp_path) == []


def test_no_protocol_of_the_contract_has_more_than_five_methods() -> None:
    """What serves and what collects are two halves; a new kind of store is written by both."""
    tree = ast.parse(inspect.getsource(base))
    sizes = {
        node.name: sum(
            isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) for part in node.body
        )
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    assert {name: size for name, size in sizes.items() if size > MOST_METHODS} == {}
    assert len(sizes) > 10
