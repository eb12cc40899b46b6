# SPDX-License-Identifier: Apache-2.0
"""A directory with very many names, as another program left it, listed page by page."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.interop.content import digest_of, pages
from tests.interop.registries import Identity, Program

NAMES = 10_000
PAGE = 1_000
#: The target is one millisecond of the server's CPU; the bound leaves room for a slow machine.
CPU_SECONDS_A_PAGE = 0.005
LISTS = {
    "/v2/many/tags/list": ("tags", [f"build-{number:05}" for number in range(NAMES)]),
    "/v2/_catalog": ("repositories", [f"group/app-{number:05}" for number in range(NAMES)]),
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in distribution's layout: a repository with many tags, and many repositories."""
    digest = digest_of(b"{}")
    hexadecimal = digest.partition(":")[2]
    data = tmp_path_factory.mktemp("large")
    top = data / "docker" / "registry" / "v2"
    revision = Path("_manifests", "revisions", "sha256", hexadecimal)
    _link(top / "repositories" / "many" / revision, digest)
    for tag in LISTS["/v2/many/tags/list"][1]:
        _link(top / "repositories" / "many" / "_manifests" / "tags" / tag / "current", digest)
    for name in LISTS["/v2/_catalog"][1]:
        _link(top / "repositories" / name / revision, digest)
    return data


def _link(folder: Path, digest: str) -> None:
    folder.mkdir(parents=True)
    (folder / "link").write_text(digest)


@pytest.mark.parametrize("url", LISTS)
def test_ten_thousand_names(storage: Path, identity: Identity, registry: Program, url: str) -> None:
    """Every page is there, in order, and none costs more than a small list's."""
    key, names = LISTS[url]
    with registry.running(storage, identity) as (client, process):
        found = pages(client, f"{url}?n={PAGE}", key)
        assert found == (names if key == "tags" else [*names, "many"])
        before = _cpu_seconds(process)
        for number in range(100):
            last = names[number * 97 % (NAMES - PAGE)]
            page = client.get(url, params={"n": PAGE, "last": last}).json()[key]
            assert (len(page), page[0] > last) == (PAGE, True)
        assert (_cpu_seconds(process) - before) / 100 < CPU_SECONDS_A_PAGE


def _cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """Return what a process has used of the CPU (proc(5): utime and stime)."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
