# SPDX-License-Identifier: Apache-2.0
"""Push, pull and promote: which copies there are, and what is told of them afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import artifacts, builds, direct, overlays, plan, transfers
from .errors import ImagesError
from .images import TaggedImage, wanted_images
from .transfers import CarryOptions, CopyOutcome

#: Bytes of an answer of Zuul's API.
_MOST = 1 << 26


def work(given: Mapping[str, Any], how: CarryOptions) -> dict[str, Any]:
    """Do what a module's options say; returns what it returns."""
    done = {
        "push": _push,
        "pull": _pull,
        "promote": _promote,
        "overlay": _overlay,
        "permit_push": _permit_push,
        "permit_pull": _permit_pull,
        "confirm_push": _confirm_push,
    }
    return done[given["action"]](given, how)


def nothing(error: str) -> dict[str, Any]:
    """Return what is told where nothing could be done."""
    return _told([], False) | {"errors": [error]}


def _push(given: Mapping[str, Any], how: CarryOptions) -> dict[str, Any]:
    images = wanted_images(given["images"], given["images_variable"])
    if not images:
        return _told([], how.dry)
    there = plan.intermediate_registry(given["intermediate_registry"])
    own = plan.buildset_registry(given["buildset_registry"])
    copies = plan.push_copies(images, given["build"], own, there)
    return _pushed(transfers.run(_permitted(copies, given), how), there, given, how)


def _confirm_push(given: Mapping[str, Any], how: CarryOptions) -> dict[str, Any]:
    images = wanted_images(given["images"], given["images_variable"])
    there = plan.intermediate_registry(given["intermediate_registry"])
    copies = plan.push_copies(images, given["build"], there, there)
    outcomes = direct.confirm(copies, given["copied"], how.patience) if copies else []
    # The host that has copied has told of it.
    return _pushed(outcomes, there, given, how) | {"lines": []}


def _pushed(
    outcomes: list[CopyOutcome],
    there: plan.KnownRegistry,
    given: Mapping[str, Any],
    how: CarryOptions,
) -> dict[str, Any]:
    """Tell what was pushed, with what is to be returned to Zuul of it."""
    made = [
        artifacts.make_artifact(one.copy.image, there.host, given["build"], one.told)
        for one in outcomes
        if not one.error
    ]
    fresh, changed = artifacts.not_returned(made, given["returned"])
    told = _told(outcomes, how.dry)
    return told | {"artifacts": fresh, "errors": [*told["errors"], *changed]}


def _pull(given: Mapping[str, Any], how: CarryOptions) -> dict[str, Any]:
    images, notes = artifacts.read_artifacts(given["artifacts"])
    if not images:
        return _told([], how.dry)
    there = plan.intermediate_registry(given["intermediate_registry"])
    own = plan.buildset_registry(given["buildset_registry"])
    copies = plan.pull_copies(images, own, there)
    told = _told(transfers.run(_permitted(copies, given), how), how.dry)
    return told | {"lines": [*notes, *told["lines"]]}


def _permitted(copies: list[plan.ImageCopy], given: Mapping[str, Any]) -> list[plan.ImageCopy]:
    """Have copies use the tokens that there are instead of the secret."""
    permits = given.get("permits") or []
    return direct.by_permits(copies, permits) if permits else copies


def _permit_push(given: Mapping[str, Any], how: CarryOptions) -> dict[str, Any]:
    return _told([], how.dry) | direct.permit_push(given)


def _permit_pull(given: Mapping[str, Any], how: CarryOptions) -> dict[str, Any]:
    return _told([], how.dry) | direct.permit_pull(given)


def _overlay(given: Mapping[str, Any], how: CarryOptions) -> dict[str, Any]:
    return _told([], how.dry) | overlays.hand_over(given, how)


def _promote(given: Mapping[str, Any], how: CarryOptions) -> dict[str, Any]:
    images = wanted_images(given["images"], given["images_variable"])
    registries = plan.public_registries(given["registries"])
    names = {str(one["repository"]): str(one.get("registry") or "") for one in given["images"]}
    public = {one: plan.public_location(one, names, registries) for one in images}
    if not public:
        return _told([], how.dry)
    promotion = given["promotion"]
    if promotion["method"] == "tag":
        return _retag(promotion, public, how)
    built = _built(promotion, public, how)
    there = plan.intermediate_registry(given["intermediate_registry"])
    copies = plan.promote_copies(built, there, public)
    return _told(transfers.run(copies, replace(how, by_tag=True)), how.dry)


def _retag(
    promotion: Mapping[str, Any],
    public: Mapping[TaggedImage, plan.ImageLocation],
    how: CarryOptions,
) -> dict[str, Any]:
    """Promote what a change's tag names; where Zuul can be asked, only what a build returned."""
    asked = bool(promotion["api"] and promotion["job"])
    built = _built(promotion, public, how) if asked else []
    digests = {image: artifact.digest for image, artifact in built}
    copies = plan.retag_copies(promotion["prefix"], digests, public)
    outcomes = transfers.run(copies, replace(how, by_tag=True))
    told = _told(outcomes, how.dry)
    done = [one.copy.source for one in outcomes if not one.error]
    return told | {"lines": [*told["lines"], *([] if how.dry else transfers.delete_tags(done))]}


def _built(
    promotion: Mapping[str, Any],
    public: Mapping[TaggedImage, plan.ImageLocation],
    how: CarryOptions,
) -> list[tuple[TaggedImage, artifacts.ImageArtifact]]:
    """Ask Zuul for the build, and return what it has returned of the images."""
    keys = ("api", "job", "pipeline", "change", "patchset", "newrev", "buildset")
    query = builds.BuildQuery(**{key: str(promotion[key] or "") for key in keys})
    query.check()
    build = builds.newest_success(_ask(query.url, how), query)
    if not build.get("artifacts"):
        build = _ask(query.build_url(str(build["uuid"])), how)
    return builds.promoted(build, public)


def _ask(url: str, how: CarryOptions) -> Any:
    status, raw = transfers.fetch(url, _MOST, how.patience)
    try:
        if status == 200:
            return json.loads(raw)
    except ValueError:
        pass
    hint = "promote_container_image_api is to end in /api/tenant/TENANT, and needs no login"
    raise ImagesError(f"{url} answers with status {status} and no JSON of Zuul's; {hint}")


def _told(outcomes: list[CopyOutcome], dry: bool) -> dict[str, Any]:
    done = [one for one in outcomes if not one.error]
    return {
        "changed": any(one.copied for one in done),
        "images": [
            {
                "name": str(one.copy.image),
                "destination": str(one.copy.target),
                "copied": one.copied,
                "referrers": list(one.referrers),
                **one.told,
            }
            for one in done
        ],
        "artifacts": [],
        "bytes": {
            key: sum(getattr(one, key) for one in outcomes)
            for key in ("moved", "mounted", "skipped")
        },
        "lines": [one.line(dry) for one in done],
        "errors": [f"{one.copy.told}: {one.error}" for one in outcomes if one.error],
        "diff": {
            "before": "".join(f"{one.copy.target} {one.before or '-'}\n" for one in done),
            "after": "".join(f"{one.copy.target} {one.digest}\n" for one in done),
        },
    }
