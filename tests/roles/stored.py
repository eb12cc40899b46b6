# SPDX-License-Identifier: Apache-2.0
"""What stays of a job: its logs, as a base job collects them, and its artifacts, as Zuul has them.

A base job puts what each node has in ``zuul-output/logs`` below the build's logs, by the node's
name where there are several, and tells Zuul where these are. Zuul's own code makes the artifacts'
URLs of that. Here it is a folder, so that an artifact's URL can be opened as it is.
"""

from __future__ import annotations

import subprocess
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from tests.lab.host import USER
from tests.roles.buildset import Nodes, NodesJob
from tests.roles.intermediate import CHANGE, handed_on

_OUTPUT = f"/home/{USER}/zuul-output/logs"
STOP = {"buildset_registry_state": "stopped"}


@dataclass(frozen=True)
class StoredBuild:
    """The logs of a build and its artifacts."""

    logs: Path
    artifacts: list[dict[str, Any]]

    @property
    def url(self) -> str:
        """Where the logs are."""
        return f"{self.logs.as_uri()}/"

    def artifact(self, what: str) -> dict[str, Any]:
        """Return the one that is the registry's report, or its lock."""
        kind = f"buildset_registry_{what}"
        (found,) = (one for one in self.artifacts if one["metadata"]["type"] == kind)
        return found

    def file(self, what: str) -> str:
        """Return the content of the file that its URL leads to."""
        url = str(self.artifact(what)["url"])
        return (self.logs / url.removeprefix(self.url)).read_text()


def store(nodes: Nodes, job: NodesJob, node: str) -> StoredBuild:
    """Stop the registry of a node as the last playbook does, and have the build stored."""
    logs = job.logs.resolve()
    tell = {"zuul_return": {"data": {"zuul": {"log_url": logs.as_uri()}}}}
    play = {"hosts": node, "roles": ["run_buildset_registry"], "vars": STOP, "post_tasks": [tell]}
    run = job.play(job.desk.write("stop.yml", [play]))
    assert run.code == 0, run.output
    words = nodes.lab.command(node, "tar", "--create", "--directory", _OUTPUT, ".")
    packed = subprocess.run(words, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(logs / node, filter="data")
    # What Zuul adds when it hands them to another job is not this build's.
    found = [{**one} for one in handed_on(job)]
    for one in found:
        assert CHANGE.items() <= one.items()
        for key in CHANGE:
            del one[key]
    return StoredBuild(logs, found)
