# SPDX-License-Identifier: Apache-2.0
"""Other tools' forms of a lock: BuildKit's source policy, an in-toto statement, a compose file.

Each is the same text for the same lock. The digest is that of the index, where there is one: every
platform's client finds its own manifest from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from urllib.parse import quote

import yaml

from buildset_registry import __version__
from buildset_registry.errors import ConfigError, RegistryError
from buildset_registry.image_lock.document import USUAL_NAME, ImageLock, LockedImage, PublicName
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.hosts import DOCKER_HUB
from buildset_registry.yaml_text import read_yaml

_PROJECT = "https://github.com/buildset/registry"
#: What the statement is of; the page on it says that pulls were observed, and no more.
_BUILD_TYPE = f"{_PROJECT}/blob/main/docs/how-to/lock.rst"


def source_policy(lock: ImageLock) -> str:
    """Return the lock as a source policy (BuildKit, ``sourcepolicy/pb/policy.proto``).

    Every match is exact: with wildcards, a tag would match those that begin like it. BuildKit asks
    for ``:latest`` where no tag is given, buildah for what was written: a rule for each.
    """
    rules = []
    for name in sorted(lock.images, key=str):
        identifiers = [f"docker-image://{name}"]
        if name.tag == "latest":
            identifiers.append(f"docker-image://{name.repository}")
        pinned = f"docker-image://{name}@{lock.images[name].digest}"
        rules += [_rule(identifier, pinned) for identifier in identifiers]
    return _json({"version": 1, "rules": rules})


def statement(lock: ImageLock, pushed: Mapping[str, Digest]) -> str:
    """Return the lock as an in-toto Statement v1 with SLSA Provenance v1.

    Its subjects are the images that were ``pushed``, or else the lock itself. That upstream's
    images were pulled beside is all that is known: which went into which image is not said.
    """
    own = {USUAL_NAME: Digest.of(lock.dump().encode())}
    subjects = [
        {"name": name, "digest": {digest.algorithm: digest.hex}}
        for name, digest in sorted((pushed or own).items())
    ]
    dependencies = [
        _dependency(name, lock.images[name]) for name in sorted(lock.images, key=str)
    ]  # fmt: skip
    definition = {
        "buildType": _BUILD_TYPE,
        "externalParameters": {},
        "resolvedDependencies": dependencies,
    }
    builder = {"id": _PROJECT, "version": {"buildset-registry": __version__}}
    return _json(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subjects,
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {"buildDefinition": definition, "runDetails": {"builder": builder}},
        }
    )


def compose_override(lock: ImageLock, projects: Iterable[tuple[str, str]]) -> tuple[str, list[str]]:
    """Return an override of compose files, and the services that it leaves as they are.

    Of each file its name and its text; ``docker compose config`` prints one with all variables
    filled in.
    """
    services: dict[str, dict[str, str]] = {}
    left: list[str] = []
    for source, text in projects:
        for service, image in _service_images(source, text):
            name = _image_of(image)
            found = lock.images.get(name) if name else None
            if found is None:
                left.append(f"{service} ({image})")
            else:
                services[service] = {"image": f"{name}@{found.digest}"}
    return yaml.safe_dump({"services": services}), left


def purl(name: PublicName, platforms: tuple[str, ...] = ()) -> str:
    """Return the package URL of an image (purl-spec, type ``docker``).

    Docker Hub is the default registry and ``library`` is left out there. A platform is named where
    there is one only.
    """
    path, qualifiers = name.name.remote, []
    if len(platforms) == 1:
        qualifiers.append(f"platform={quote(platforms[0], safe='')}")
    if name.name.host == DOCKER_HUB:
        path = path.removeprefix("library/")
    else:
        qualifiers.append(f"repository_url={quote(name.name.host, safe='')}")
    more = f"?{'&'.join(qualifiers)}" if qualifiers else ""
    return f"pkg:docker/{quote(path)}@{quote(name.tag, safe='')}{more}"


def _rule(identifier: str, pinned: str) -> dict[str, object]:
    return {
        "action": "CONVERT",
        "selector": {"identifier": identifier, "matchType": "EXACT"},
        "updates": {"identifier": pinned},
    }


def _dependency(name: PublicName, image: LockedImage) -> dict[str, object]:
    tree: dict[str, object] = {
        "name": str(name),
        "uri": purl(name, image.platforms),
        "digest": {image.digest.algorithm: image.digest.hex},
    }
    if image.media_type:
        tree["mediaType"] = image.media_type
    return tree


def _service_images(source: str, text: str) -> list[tuple[str, str]]:
    """Return the services of a compose file that have an image."""
    tree = read_yaml(text, source)
    services = tree.get("services") if isinstance(tree, dict) else None
    if not isinstance(services, dict):
        raise ConfigError(f"{source} has no services; name a compose file by --compose-file")
    return [
        (str(service), one["image"])
        for service, one in services.items()
        if isinstance(one, dict) and isinstance(one.get("image"), str)
    ]


def _image_of(text: str) -> PublicName | None:
    """Return the image that a service names; None where it has a digest or a variable."""
    tagged = text if ":" in text.rpartition("/")[2] else f"{text}:latest"
    try:
        return PublicName.parse(tagged)
    except RegistryError:
        return None


def _json(tree: object) -> str:
    return json.dumps(tree, indent=2, ensure_ascii=True) + "\n"
