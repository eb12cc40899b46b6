# SPDX-License-Identifier: Apache-2.0
"""Configure a dockerd that runs, and undo it, where it is the only one to be seen.

usage: python -m tests.clients.forgetting NAME FOLDER
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from buildset_clients import main

from tests.clients import proxied
from tests.clients.commands import run, wait_until
from tests.clients.proxied import Docker
from tests.use.places import PULL, make_setup


def mirrors(docker: Docker) -> str:
    """Tell the mirrors that the daemon knows."""
    return run(*docker.command("info", "--format", "{{json .RegistryConfig.Mirrors}}"))


def told(docker: Docker) -> dict[str, object]:
    """Tell what was left of the registry once the role has undone its work."""
    settings = docker.folder / "settings"
    order = main.Order(clients=["docker"], store=False)
    with proxied.running(docker, {"log-level": "info"}, {}):
        os.environ["DOCKER_HOST"] = f"unix://{docker.folder}/socket"
        before, process = settings.read_bytes(), (docker.folder / "pid").read_text()
        main.use(order, make_setup())
        wait_until(lambda: PULL in mirrors(docker), "dockerd knows the mirror")
        notes = main.restore(order)["notes"]
        return {
            "notes": notes,
            "mirrors": json.loads(mirrors(docker)) or [],
            "settings as before": settings.read_bytes() == before,
            "same process": (docker.folder / "pid").read_text() == process,
        }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(told(Docker(sys.argv[1], Path(sys.argv[2])))))
