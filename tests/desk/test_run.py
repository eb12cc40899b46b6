# SPDX-License-Identifier: Apache-2.0
"""``make run`` in a company: as an ordinary user, by its mirror or its proxy, behind its CA."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desk.company import Mirror, Proxy
from tests.desk.conftest import HIDDEN, MIRROR, User, working

#: An environment of Python is made, some of them on a disk that others use too.
pytestmark = pytest.mark.timeout(400)

#: A session that installs as every tier does.
NOXFILE = """\
import sys
sys.path.append(".")
import nox, noxfile

@nox.session
def probe(session: nox.Session) -> None:
    noxfile.install(session, "venv", payload=True)
    session.run("buildset-registry", "--version")
"""


def locked() -> set[str]:
    """Return the projects that .venv is made of everywhere."""
    lines = Path("requirements/venv.txt").read_text().splitlines()
    return {line.partition("==")[0] for line in lines if re.match(r"[a-z0-9-]+==[^;]*$", line)}


def projects(wheels: list[str]) -> set[str]:
    """Return the projects that wheels are of."""
    return {re.sub(r"[-_.]+", "-", name.partition("-")[0]).lower() for name in wheels}


def runs_and_stops(user: User) -> None:
    """Start a registry, push an image and pull it back, and stop the registry."""
    told = user.run("make", "run")
    pushed = re.search(r"pushed by \w+: (sha256:\w+)", told)
    pulled = re.search(r"pulled by \w+: (sha256:\w+)", told)
    assert pushed and pulled and pushed[1] == pulled[1], told
    user.run("make", "stop")


@pytest.fixture(scope="module")
def mirrored(mirror: Mirror) -> Iterator[User]:
    """A user whose pip.conf names the company's mirror, as the company's set-up wrote it."""
    with working() as user:
        index = f"https://{MIRROR}:{mirror.port}/simple"
        user.write(".config/pip/pip.conf", f"[global]\nindex-url = {index}\n")
        yield user


def test_a_mirror_that_pip_conf_names(mirrored: User, mirror: Mirror) -> None:
    """Over TLS that only the system's store verifies; uv takes both from pip's settings."""
    runs_and_stops(mirrored)
    assert locked() | {"hatchling"} <= projects(mirror.served)


def test_a_tier_of_tests_installs_from_the_mirror(mirrored: User, mirror: Mirror) -> None:
    """Each session of nox, as .venv itself."""
    mirrored.run("make", "venv")
    (mirrored.checkout / "probe.py").write_text(NOXFILE)
    before = len(mirror.served)
    nox = [".venv/bin/nox", "--noxfile", "probe.py", "--session", "probe"]
    assert "buildset-registry" in mirrored.run(*nox, UV_NO_CACHE="1")
    assert locked() <= projects(mirror.served[before:])


def test_a_proxy_that_leads_to_the_index_alone(user: User, mirror: Mirror, proxy: Proxy) -> None:
    """The index is named by PIP_INDEX_URL; the registry itself is reached past the proxy."""
    before = len(mirror.served)
    user.variables = {
        "PIP_INDEX_URL": f"https://{HIDDEN}/simple",
        "HTTP_PROXY": proxy.url,
        "HTTPS_PROXY": proxy.url,
        "NO_PROXY": "localhost,127.0.0.1",
    }
    runs_and_stops(user)
    assert locked() <= projects(mirror.served[before:])
    assert {line.split()[1] for line in proxy.asked} == {f"{HIDDEN}:443"}
