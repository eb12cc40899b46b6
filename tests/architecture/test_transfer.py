# SPDX-License-Identifier: Apache-2.0
"""The copy engine runs where there is nothing but Python, and under another name."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import MODULES, REGISTRY, TOP, Module

#: What modules for Ansible are given.
SHARED = ("errors", "oci", "protocol", "transfer")
LINKS = TOP / "roles" / "push_to_intermediate_registry" / "module_utils" / "buildset_transfer"


def shared() -> list[Module]:
    """Return the modules that run on the executor, too."""
    return [one for one in MODULES if one.name.split(".")[1:2] and one.name.split(".")[1] in SHARED]


@pytest.mark.parametrize("module", shared(), ids=str)
def test_a_shared_module_imports_its_like_and_the_standard_library(module: Module) -> None:
    """Its like by relative names, since Ansible finds it elsewhere."""
    foreign, outside = [], []
    for node in module.nodes:
        if isinstance(node, ast.Import):
            foreign += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            foreign.append(node.module or "")
        elif isinstance(node, ast.ImportFrom):
            base = module.package.split(".")[: len(module.package.split(".")) - node.level + 1]
            whole = [*base, *(node.module or "").split("."), *(one.name for one in node.names)]
            outside += [".".join(whole)] if whole[1] not in SHARED else []
    assert not [name for name in foreign if name.partition(".")[0] not in sys.stdlib_module_names]
    assert not outside


def test_the_links_give_modules_what_is_shared_and_nothing_else() -> None:
    """Real files stand once, in the program."""
    held = {path.name.removesuffix(".py"): path for path in LINKS.iterdir()}
    assert set(held) - {"__pycache__"} == {"__init__", *SHARED}
    assert {held[name].resolve().parent for name in SHARED} == {REGISTRY.folder.resolve()}


def test_the_engine_starts_on_python_alone(tmp_path: Path) -> None:
    """Without installed packages, from the links, under their name."""
    code = (
        f"import sys; sys.path.insert(0, {str(LINKS.parent)!r}); sys.dont_write_bytecode = True; "
        "from buildset_transfer.transfer.copy import copy_images; "
        "from buildset_transfer.transfer.image_names import requests; "
        "print(copy_images(requests(['oci:none'], 'oci:new')).images[0].error)"
    )
    words = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert "none is no OCI image layout" in done.stdout
    assert not list(tmp_path.iterdir())
