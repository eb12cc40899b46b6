# SPDX-License-Identifier: Apache-2.0
"""Clients written in Go, and what is no image: artifacts, charts, signatures, referrers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.commands import execute, run
from tests.clients.conftest import Trial

LOGIN = {
    "crane": ["auth", "login"],
    "helm": ["registry", "login"],
    "oras": ["login"],
    "regctl": ["registry", "login"],
}
STANDARD_INPUT = {"regctl": "--pass-stdin"}
ALIAS = "zuul-jobs.buildset-registry"
SIGNATURE = "application/vnd.dev.cosign.artifact.sig.v1+json"
CHART = {"apiVersion": "v2", "name": "chart", "version": "0.1.0", "description": "for tests"}


@dataclass(frozen=True)
class Tool:
    """A client with a home of its own; Go trusts what SSL_CERT_FILE names."""

    name: str
    home: Path
    trial: Trial

    def run(self, *words: str | Path, stdin: str = "") -> str:
        """Run a command that has to succeed."""
        return run(self.name, *words, stdin=stdin, environment=self.environment)

    def log_in(self, password: str, host: str = "") -> str:
        """Log in to the push endpoint, and return what the client said.

        crane does not try the credentials at once, so it is made to.
        """
        option = STANDARD_INPUT.get(self.name, "--password-stdin")
        facts = self.trial.registry.facts
        address = f"{host or facts['push_host']}:{facts['push_port']}"
        words = [*LOGIN[self.name], "-u", facts["username"], option, address]
        done = execute(self.name, *words, stdin=password, environment=self.environment)
        if self.name == "crane":
            done = execute("crane", "catalog", address, environment=self.environment)
        return done.stdout + done.stderr

    @property
    def environment(self) -> dict[str, str]:
        """Tell where the client keeps its settings, and which certificate it trusts."""
        return {"HOME": str(self.home), "SSL_CERT_FILE": str(self.home / "ca.crt")}

    @property
    def push(self) -> str:
        """Tell the push endpoint's address and a namespace there."""
        return f"{self.trial.registry.push}/{self.name}"

    @property
    def pull(self) -> str:
        """Tell the pull endpoint's address and the same namespace there."""
        return f"{self.trial.registry.pull}/{self.name}"

    def did(self, deed: str) -> None:
        """Write down what it did."""
        self.trial.ledger.note(self.name, deed)


@pytest.fixture
def tool(trial: Trial, tmp_path: Path, request: pytest.FixtureRequest) -> Tool:
    """The client that the test is about, logged in."""
    made = Tool(request.param, tmp_path, trial)
    (tmp_path / "ca.crt").write_text(trial.registry.facts["cert"])
    found = re.search(r"\d+\.\d+(?:\.\d+)?", made.run("version"))
    assert found
    trial.ledger.introduce(made.name, found[0])
    said = made.log_in(trial.registry.facts["password"])
    assert "unauthorized" not in said.lower(), said
    return made


def about(*names: str) -> pytest.MarkDecorator:
    """Give a test the client that it is about."""
    return pytest.mark.parametrize("tool", names, indirect=True)


@pytest.fixture
def note(tmp_path: Path) -> Path:
    """A file to push."""
    path = tmp_path / "note.txt"
    path.write_text("a note\n")
    return path


@about("crane", "helm", "oras", "regctl")
def test_login_and_trust(tool: Tool) -> None:
    """A wrong password and an unknown certificate are refused, the right ones are not."""
    registry = tool.trial.registry
    assert "unauthorized" in tool.log_in("wrong").lower()
    tool.did("was refused with a wrong password")
    (tool.home / "ca.crt").write_text("")
    # Not by the address: regctl also trusts what docker has been told to trust.
    said = tool.log_in(registry.facts["password"], ALIAS)
    assert "certificate signed by unknown authority" in said, said
    tool.did("verified TLS")


@about("crane")
def test_crane_pushes_copies_and_deletes_an_index(tool: Tool, tmp_path: Path) -> None:
    """crane pushes an index and an image, tags, lists, copies, validates, pulls and deletes."""
    layout = tool.trial.source.layout
    tool.run("push", "--index", layout, f"{tool.push}/app:v1")
    digest = tool.run("digest", f"{tool.pull}/app:v1").strip()
    tool.run("tag", f"{tool.push}/app:v1", "v2")
    tool.run("copy", f"{tool.push}/app:v1", f"{tool.push}/copy:v1")
    assert tool.run("ls", f"{tool.pull}/app").split() == ["v1", "v2"]
    assert tool.run("digest", f"{tool.pull}/copy:v1").strip() == digest
    tool.run("validate", "--remote", f"{tool.pull}/copy:v1")
    tool.run("pull", "--format", "oci", f"{tool.pull}/copy:v1", tmp_path / "pulled")
    assert digest in (tmp_path / "pulled" / "index.json").read_text()
    assert {"crane/app", "crane/copy"} <= set(tool.run("catalog", tool.trial.registry.push).split())
    tool.run("delete", f"{tool.push}/app:v2")
    assert tool.run("ls", f"{tool.pull}/app").split() == ["v1"]
    tool.run("delete", f"{tool.push}/copy@{digest}")
    assert tool.run("ls", f"{tool.pull}/copy").split() == []
    tool.did("pushed, tagged, listed, copied, validated, pulled, deleted")


@about("regctl")
def test_regctl_copies_an_image_with_its_referrers(tool: Tool, note: Path) -> None:
    """regctl copies an image with its referrers and its signature's tag, and deletes a tag."""
    image, kind = f"{tool.push}/app:v1", "application/vnd.example.note"
    tool.run("image", "copy", f"ocidir://{tool.trial.source.layout}:index", image)
    digest = tool.run("image", "digest", f"{tool.pull}/app:v1").strip()
    tool.run("artifact", "put", "--artifact-type", kind, "--file", note, "--subject", image)
    # cosign's older way: a tag made of the digest.
    signature = digest.replace(":", "-") + ".sig"
    tool.run(
        "artifact",
        "put",
        "--artifact-type",
        SIGNATURE,
        "--file",
        note,
        f"{tool.push}/app:{signature}",
    )
    tool.run("image", "copy", "--referrers", "--digest-tags", image, f"{tool.push}/copy:v1")
    listed = json.loads(
        tool.run("artifact", "list", f"{tool.pull}/copy:v1", "--format", "{{json .}}")
    )
    assert [one["artifactType"] for one in listed["descriptors"]] == [kind]
    got = tool.run(
        "artifact", "get", "--subject", f"{tool.pull}/copy:v1", "--filter-artifact-type", kind
    )
    assert got == note.read_text()
    assert tool.run("tag", "ls", f"{tool.pull}/copy").split() == [signature, "v1"]
    tool.run("tag", "delete", f"{tool.push}/copy:v1")
    assert tool.run("tag", "ls", f"{tool.pull}/copy").split() == [signature]
    tool.did("copied an index with referrers and signature, listed, deleted a tag")


@about("oras")
def test_oras_attaches_and_discovers_a_signature(tool: Tool, note: Path, tmp_path: Path) -> None:
    """oras pushes a file, attaches a signature, discovers it, copies both and deletes one."""
    ours = ["--disable-path-validation"]
    artifact = f"{tool.push}/note:v1"
    tool.run(
        "push",
        *ours,
        "--artifact-type",
        "application/vnd.example.note",
        artifact,
        f"{note}:text/plain",
    )
    tool.run("attach", *ours, "--artifact-type", SIGNATURE, artifact, f"{note}:text/plain")
    tool.run("tag", artifact, "v2", "v3")
    assert tool.run("repo", "tags", f"{tool.pull}/note").split() == ["v1", "v2", "v3"]
    tool.run("cp", "--recursive", artifact, f"{tool.push}/copy:v1")
    found = json.loads(tool.run("discover", "--format", "json", f"{tool.pull}/copy:v1"))
    assert [one["artifactType"] for one in found["referrers"]] == [SIGNATURE]
    digest = tool.run("resolve", f"{tool.pull}/note:v1")
    assert tool.run("resolve", f"{tool.pull}/copy:v1") == digest
    note.unlink()
    tool.run("pull", "--allow-path-traversal", "--output", tmp_path, f"{tool.pull}/copy:v1")
    assert note.read_text() == "a note\n"
    signature = found["referrers"][0]["digest"]
    tool.run("manifest", "delete", "--force", f"{tool.push}/copy@{signature}")
    found = json.loads(tool.run("discover", "--format", "json", f"{tool.pull}/copy:v1"))
    assert not found["referrers"]
    tool.did("pushed, attached, discovered, tagged, copied with referrers, pulled, deleted")


@about("helm")
def test_helm_pulls_the_chart_that_it_pushed(tool: Tool, tmp_path: Path) -> None:
    """helm pushes a chart and pulls the same bytes."""
    chart = tmp_path / "chart"
    chart.mkdir()
    (chart / "Chart.yaml").write_text(json.dumps(CHART))
    tool.run("package", "--destination", tmp_path, chart)
    package = tmp_path / "chart-0.1.0.tgz"
    tool.run("push", package, f"oci://{tool.push}/charts")
    assert "for tests" in tool.run("show", "chart", f"oci://{tool.pull}/charts/chart")
    pulled = tmp_path / "pulled"
    pulled.mkdir()
    tool.run("pull", "--destination", pulled, f"oci://{tool.pull}/charts/chart")
    assert (pulled / package.name).read_bytes() == package.read_bytes()
    tool.did("pushed, showed and pulled a chart")
