# SPDX-License-Identifier: Apache-2.0
"""Other tools' forms of a lock, held against what their specifications say."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from buildset_registry.errors import ConfigError
from buildset_registry.image_lock.document import ImageLock, LockedImage, PublicName
from buildset_registry.image_lock.exports import (
    compose_override,
    purl,
    source_policy,
    statement,
)
from buildset_registry.oci.descriptor import OCI_INDEX
from buildset_registry.oci.digest import Digest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement

FIRST, SECOND = Digest.of(b"first"), Digest.of(b"second", "sha512")
LOCK = ImageLock(
    {
        PublicName.parse("quay.io/org/app:latest"): LockedImage(SECOND, None, ("linux/amd64",)),
        PublicName.parse("python:3"): LockedImage(
            FIRST, OCI_INDEX, ("linux/amd64", "linux/arm64"), "docker.io", "2026-01-01"
        ),
    }
)
PURLS = {
    ("python:3", ("linux/amd64",)): "pkg:docker/python@3?platform=linux%2Famd64",
    ("python:3", ("linux/amd64", "linux/arm64")): "pkg:docker/python@3",
    ("org/app:1", ()): "pkg:docker/org/app@1",
    ("quay.io/org/app:1", ()): "pkg:docker/org/app@1?repository_url=quay.io",
    ("r.example.com:5000/app:1", ("linux/arm/v7",)): "pkg:docker/app@1?platform=linux%2Farm%2Fv7"
    "&repository_url=r.example.com%3A5000",
}


@pytest.mark.parametrize(("name", "platforms"), PURLS)
def test_package_urls_are_those_of_the_specification(name: str, platforms: tuple[str, ...]) -> None:
    """Docker Hub is the default; qualifiers are sorted by name."""
    assert purl(PublicName.parse(name), platforms) == PURLS[name, platforms]


def test_source_policy_has_exact_rules_for_both_forms_of_a_tag() -> None:
    """Of latest, the name without a tag as well; what is pinned is the index."""
    app = f"docker-image://quay.io/org/app:latest@{SECOND}"
    python = "docker-image://docker.io/library/python:3"
    rules = json.loads(source_policy(LOCK))["rules"]
    assert [(rule["selector"]["identifier"], rule["updates"]["identifier"]) for rule in rules] == [
        (python, f"{python}@{FIRST}"),
        ("docker-image://quay.io/org/app:latest", app),
        ("docker-image://quay.io/org/app", app),
    ]
    assert {(rule["action"], rule["selector"]["matchType"]) for rule in rules} == {
        ("CONVERT", "EXACT")
    }
    assert json.loads(source_policy(ImageLock())) == {"version": 1, "rules": []}


def check_statement(tree: dict[str, Any]) -> None:
    """Check what in-toto Statement v1 and SLSA Provenance v1 require of each field."""
    assert set(tree) == {"_type", "subject", "predicateType", "predicate"}
    assert tree["_type"] == "https://in-toto.io/Statement/v1"
    assert tree["predicateType"] == "https://slsa.dev/provenance/v1"
    assert tree["subject"]
    predicate = tree["predicate"]
    assert set(predicate) == {"buildDefinition", "runDetails"}
    definition, details = predicate["buildDefinition"], predicate["runDetails"]
    assert {"buildType", "externalParameters"} <= set(definition)
    assert isinstance(definition["externalParameters"], dict)
    for uri in (definition["buildType"], details["builder"]["id"]):
        assert uri.startswith("https://")
    for one in [*tree["subject"], *definition["resolvedDependencies"]]:
        ((algorithm, value),) = one["digest"].items()
        assert str(Digest.parse(f"{algorithm}:{value}"))
        assert isinstance(one["name"], str)
    assert all(isinstance(value, str) for value in details["builder"]["version"].values())


def test_statement_is_one_of_in_toto_with_provenance() -> None:
    """Of what was pushed, and of the lock itself where nothing was."""
    told = json.loads(statement(LOCK, {"docker.io/org/new:1": SECOND, "docker.io/org/b:1": FIRST}))
    check_statement(told)
    assert [one["name"] for one in told["subject"]] == ["docker.io/org/b:1", "docker.io/org/new:1"]
    dependencies = told["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert [one["uri"] for one in dependencies] == [
        "pkg:docker/python@3",
        "pkg:docker/org/app@latest?platform=linux%2Famd64&repository_url=quay.io",
    ]
    assert [one.get("mediaType") for one in dependencies] == [OCI_INDEX, None]
    alone = json.loads(statement(LOCK, {}))
    check_statement(alone)
    assert alone["subject"][0]["digest"] == {"sha256": Digest.of(LOCK.dump().encode()).hex}
    assert statement(LOCK, {}) == statement(LOCK, {})


def test_compose_override_pins_services_and_names_the_others() -> None:
    """By names in any form; one without an image, or with a digest, is left as it is."""
    text = f"""
services:
  a: {{image: python:3}}
  b: {{image: docker.io/library/python:3, ports: ["80"]}}
  c: {{image: quay.io/org/app}}
  d: {{image: "python:$VERSION"}}
  e: {{build: .}}
  f: {{image: "python@{FIRST}"}}
  g: {{image: python:4}}
"""
    override, left = compose_override(LOCK, [("compose.yaml", text)])
    python = f"docker.io/library/python:3@{FIRST}"
    assert yaml.safe_load(override) == {
        "services": {
            "a": {"image": python},
            "b": {"image": python},
            "c": {"image": f"quay.io/org/app:latest@{SECOND}"},
        }
    }
    assert [one.partition(" ")[0] for one in left] == ["d", "f", "g"]


@pytest.mark.parametrize("pushed", [{}, {"quay.io/org/own:1": FIRST, "app:2": SECOND}])
@pytest.mark.parametrize("lock", [LOCK, ImageLock({})])
def test_the_statement_is_one_by_the_schema_that_in_toto_publishes(
    lock: ImageLock, pushed: dict[str, Digest]
) -> None:
    """Its own messages take it, in which no field may be that they do not know."""
    text = statement(lock, pushed)
    told = json_format.Parse(text, statement_pb2.Statement())
    Statement.copy_from_pb(told).validate()
    tree = json.loads(text)
    provenance = json_format.ParseDict(tree["predicate"], provenance_pb2.Provenance())
    definition, details = provenance.build_definition, provenance.run_details
    # What SLSA calls required, which messages cannot say.
    assert definition.build_type and details.builder.id
    assert "externalParameters" in tree["predicate"]["buildDefinition"]
    for dependency in definition.resolved_dependencies:
        ResourceDescriptor.copy_from_pb(dependency).validate()
    assert len(definition.resolved_dependencies) == len(lock.images)
    tree["predicate"]["buildDefinition"]["other"] = 1
    with pytest.raises(json_format.ParseError, match="other"):
        json_format.ParseDict(tree["predicate"], provenance_pb2.Provenance())


@pytest.mark.parametrize("text", ["", "[]", "services: []", "a: [", "\x00"])
def test_what_is_no_compose_file_is_one_line(text: str) -> None:
    """It is named."""
    with pytest.raises(ConfigError, match=r"^some\.yaml (is not YAML|has no services)"):
        compose_override(LOCK, [("some.yaml", text)])
