# SPDX-License-Identifier: Apache-2.0
"""BuildKit builds from the canary, leaves nothing, and what is at fault is named."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
import trustme
from buildset_clients.canary import diagnose, run
from buildset_clients.clients import buildkit
from buildset_clients.clients.base import PullError
from buildset_clients.errors import ClientError
from buildset_clients.node import ManagedNode, option

from tests.use.places import PULL, Place, make_setup
from tests.use.receiving import Receiving, prove

SETTINGS = "/etc/buildkit/buildkitd.toml"
USUAL = "unix:///run/buildkit/buildkitd.sock"
#: Notes what it is told, and builds what the file with the output says.
BUILDCTL = """#!/bin/sh
echo "$@" >>{folder}/asked
case "$3" in
    build)
        for word; do
            case $word in *context*) ;; *=/*) folder=${{word#*=}} ;; esac
        done
        {output}
        word=$(sed 's/.*://' "$folder/Dockerfile")
        printf %s "$word" >{folder}/canary && tar -c -C {folder} canary ;;
    debug) [ "$4" != histories ] || cat {folder}/histories ;;
esac
"""
FAILING = "echo '{}' >&2; exit 1"


@pytest.fixture
def node(place: Place, registry: Receiving) -> Place:
    """A node with BuildKit, which is configured and gets what was pushed."""
    place.use("buildkit", **registry.facts)
    place.write("/histories", "")
    program(place)
    return place


def program(place: Place, output: str = ":") -> None:
    """Put a buildctl on the node's PATH."""
    text = BUILDCTL.format(folder=place.root, output=output)
    place.write("/bin/buildctl", text, 0o755)


def said(place: Place, registry: Receiving) -> str:
    """Try a BuildKit that fails; the one line of the error."""
    with pytest.raises(ClientError) as caught:
        prove(place, "buildkit", **registry.facts)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_canary_is_built_from_by_every_name(node: Place, registry: Receiving) -> None:
    """A build for each registry, at the usual address; all that they leave is pruned."""
    assert prove(node, "buildkit", **registry.facts) == ["buildctl"]
    asked = node.read("/asked").splitlines()
    assert all(line.startswith(f"--addr {USUAL} ") for line in asked)
    words = [line.split()[2:] for line in asked]
    assert len([one for one in words if one[0] == "build"]) == len(make_setup().namespaces)
    (prune,) = [one for one in words if one[0] == "prune"]
    (build, *_others) = [one for one in words if one[0] == "build"]
    word = build[build.index("--opt") + 1].removeprefix("dockerfilekey=")
    assert prune == ["prune", "--filter", f"description~={word}"]


def test_only_the_builds_of_the_canary_are_forgotten(node: Place, registry: Receiving) -> None:
    """Of the builds that are listed, other ones stay."""
    record = '{"record": {"Ref": "%s", "FrontendAttrs": {"dockerfilekey": "%s"}}}\n'
    node.write("/others", record % ("other", "dockerfile") + '{"record": {"Ref": "none"}}\n')
    ours = record.strip() % ("ours", "%s")
    output = f'word=$(sed "s/.*://" "$folder/Dockerfile"); printf \'{ours}\\n\' "$word" '
    program(node, f"{output} | cat {node.root}/others - >{node.root}/histories")
    prove(node, "buildkit", **registry.facts)
    deleted = [line for line in node.read("/asked").splitlines() if "--delete" in line]
    assert [line.rpartition(" ")[2] for line in deleted] == ["ours"]


def test_a_build_from_another_image_is_a_fallback(node: Place, registry: Receiving) -> None:
    """The file that comes out of the build counts."""
    program(node, "exit")
    message = said(node, registry)
    assert (
        f"canary: buildctl, docker.io: fallback: it asked docker.io itself, though {SETTINGS}"
        in (message)
    )


SAYINGS = {
    "fallback: it asked docker.io itself, though": "docker.io/buildset-registry: not found",
    "client: it fails before it asks a registry": "error: no space left on device",
    "auth: a credential helper fails": "error getting credentials - err: exec",
}


@pytest.mark.parametrize("layer", SAYINGS)
def test_the_last_line_of_a_build_that_fails_tells_the_layer(
    node: Place, registry: Receiving, layer: str
) -> None:
    """Its last line tells the layer, whatever of the build it shows before."""
    begun = "echo '#2 [internal] load metadata for docker.io/buildset-registry/canary' >&2"
    program(node, f"{begun}; {FAILING.format(SAYINGS[layer])}")
    assert f"canary: buildctl, docker.io: {layer}" in said(node, registry)
    assert "prune" in node.read("/asked")


def test_a_file_that_lacks_the_mirror_is_named(node: Place, registry: Receiving) -> None:
    """The file that lacks it is named."""
    program(node, FAILING.format("not found"))
    node.write(SETTINGS, "")
    assert f"configuration: 127.0.0.1:{registry.facts['port']} is not its mirror, {SETTINGS}" in (
        said(node, registry)
    )


def test_a_file_that_names_a_stale_certificate_is_named(node: Place, registry: Receiving) -> None:
    """The file that names it is named; so is a certificate that is none."""
    program(node, FAILING.format("not found"))
    certificate = "/etc/buildkit/buildset-registry.crt"
    node.write(certificate, trustme.CA().cert_pem.bytes().decode())
    assert f"TLS: what is in {SETTINGS} does not verify" in said(node, registry)
    node.write(certificate, "nothing")
    assert f"TLS: {node.root}{certificate} holds no certificate" in said(node, registry)


def test_a_daemon_that_was_started_before_its_file_is_to_be_restarted(
    node: Place, registry: Receiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads it when it starts; what to do is said."""
    program(node, FAILING.format("not found"))
    monkeypatch.setattr(ManagedNode, "started", lambda _self, _program: time.time() - 60)
    message = said(node, registry)
    assert f"configuration: buildkitd was started before {SETTINGS} was written" in message
    assert "buildset_registry_restart_commands.buildkit" in message
    # Started a moment after the file was written, by a clock that tells otherwise.
    monkeypatch.setattr(ManagedNode, "started", lambda _self, _program: time.time() - 0.2)
    node.write(SETTINGS, node.read(SETTINGS))
    assert "was started before" not in said(node, registry)


def test_a_daemon_that_does_not_answer_is_not_tried(node: Place, registry: Receiving) -> None:
    """It is not tried, and that is told; so is a client whose program is missing."""
    node.write("/bin/buildctl", "#!/bin/sh\nexit 1\n", 0o755)
    assert prove(node, "buildkit", **registry.facts) == []
    notes = run.untried(node.node, ["buildkit", "containers", "kind"], ["skopeo"])
    assert notes == ["buildkit was not tried: buildctl is not there, or gets no answer"]


@pytest.mark.parametrize(
    ("arguments", "text", "address"),
    [
        ([], "", USUAL),
        (["--addr", "fd://"], "", USUAL),
        (["--addr=unix:///x"], '[grpc]\naddress = ["unix:///y"]\n', "unix:///x"),
        ([], '[grpc]\naddress = ["fd://", "tcp://127.0.0.1:1"]\n', "tcp://127.0.0.1:1"),
    ],
)
def test_the_daemon_s_address_is_that_of_its_command_line_or_file(
    place: Place, arguments: list[str], text: str, address: str
) -> None:
    """By its command line, by its file, or at the usual place."""
    place.write(SETTINGS, text)
    assert buildkit.address(place.node, arguments) == address


def test_a_user_s_own_daemon_answers_below_the_session_s_folder(
    users_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the folder that the session has for such things."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert buildkit.address(users_place.node, []) == "unix:///run/user/7/buildkit/buildkitd.sock"


def test_the_file_that_the_command_line_names_is_the_one_that_counts(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the one that is configured, and looked at where something is wrong."""
    arguments = ["--debug", "--config", "/etc/other.toml"]
    assert buildkit.settings_file(place.node, arguments) == "/etc/other.toml"
    monkeypatch.setattr(ManagedNode, "processes", lambda _self, _program: {2**22: arguments})
    setup = make_setup()
    assert buildkit.edits(place.node, setup)[0].path == "/etc/other.toml"
    tool = buildkit.Buildctl("/bin/false", place.node, settings="/etc/other.toml")
    place.write("/etc/other.toml", '[registry."docker.io"]\nmirrors = ["elsewhere:1/hub"]\n')
    message = diagnose.explain(tool, setup, setup.namespaces[0], PullError("not found"))
    assert f"{PULL} is not its mirror, /etc/other.toml names elsewhere:1/hub instead" in message


@pytest.mark.parametrize("arguments", [["--config"], ["--configs", "x"], ["x"], []])
def test_an_option_that_only_begins_alike_is_another_one(arguments: list[str]) -> None:
    """So is one without its value, or without the name's hyphens."""
    assert option(arguments, "config") == ""


def test_a_daemon_was_started_when_the_kernel_says_so() -> None:
    """As the kernel tells it of a process that runs by this name; 0 if none does."""
    node = ManagedNode.here([])
    name = f"daemon-{os.getpid()}"
    assert node.started(name) == 0
    before = time.time()
    with subprocess.Popen([name, "20"], executable="/bin/sleep") as process:
        try:
            # The kernel tells its name a moment after it has begun.
            while not (begun := node.started(name)):
                assert process.poll() is None
        finally:
            process.kill()
    assert before - 1 < begun < time.time() + 1
