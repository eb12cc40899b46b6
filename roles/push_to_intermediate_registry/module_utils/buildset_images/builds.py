# SPDX-License-Identifier: Apache-2.0
"""Builds as Zuul's API tells of them: which one may be promoted, and what images it has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from .artifacts import ImageArtifact, is_image, read_artifact
from .errors import ImagesError, shown
from .images import TaggedImage

SUCCESS = "SUCCESS"


@dataclass(frozen=True)
class BuildQuery:
    """The build that is looked for: of which job, for which change, or in which buildset."""

    api: str
    job: str
    pipeline: str = ""
    change: str = ""
    patchset: str = ""
    newrev: str = ""
    buildset: str = ""

    @property
    def url(self) -> str:
        """Where the API lists those that may be it."""
        base = self.api.rstrip("/")
        if self.buildset:
            return f"{base}/buildset/{self.buildset}"
        named = ("change", "patchset") if self.change else ("newrev",)
        asked = {key: getattr(self, key) for key in named}
        asked.update({"pipeline": self.pipeline, "job_name": self.job})
        return f"{base}/builds?{urlencode({key: one for key, one in asked.items() if one})}"

    def build_url(self, build: str) -> str:
        """Where the API tells all of one build."""
        return f"{self.api.rstrip('/')}/build/{build}"

    def __str__(self) -> str:
        if self.buildset:
            return f"job {self.job} in buildset {self.buildset}"
        what = f"change {self.change},{self.patchset}" if self.change else f"commit {self.newrev}"
        return f"job {self.job} for {what}{f' in {self.pipeline}' if self.pipeline else ''}"

    def check(self) -> None:
        """Refuse a question that any build would answer."""
        variables = (
            ("promote_container_image_api", self.api),
            ("promote_container_image_job", self.job),
        )
        for name, value in variables:
            if not value:
                raise ImagesError(f"{name} is not set; it says which build is promoted")
        if not (self.buildset or self.change or self.newrev):
            hint = "promote in a pipeline that runs for changes or commits"
            raise ImagesError(f"the job is for no change and no commit; {hint}")


def newest_success(answer: Any, query: BuildQuery) -> Mapping[str, Any]:
    """Return the newest build that succeeded; ImagesError says what there is instead.

    The API lists the newest first. It may be asked by words that it does not know, and then tells
    of other builds: job, change and patchset are looked at again.
    """
    builds = answer.get("builds") if query.buildset and isinstance(answer, Mapping) else answer
    if not isinstance(builds, list) or not all(isinstance(one, Mapping) for one in builds):
        raise ImagesError(f"{query.url} did not answer with builds; {_API}")
    own: list[Mapping[str, Any]] = [one for one in builds if _matches(one, query)]
    for build in own:
        if build.get("result") == SUCCESS and build.get("uuid"):
            return build
    if not own:
        raise ImagesError(f"there is no build of {query}; has it run, and in that pipeline?")
    result = own[0].get("result") or "no result yet"
    raise ImagesError(
        f"no build of {query} has succeeded: the newest, {own[0].get('uuid')}, has {result}; "
        "only what was tested is promoted"
    )


_API = "promote_container_image_api is to end in /api/tenant/TENANT"


def _matches(build: Mapping[str, Any], query: BuildQuery) -> bool:
    ref = build.get("ref")
    known: Mapping[str, Any] = {**build, **(ref if isinstance(ref, Mapping) else {})}
    asked = {"change": query.change, "patchset": query.patchset, "newrev": query.newrev}
    if query.buildset:
        asked = {}
    return build.get("job_name") == query.job and all(
        str(known[key]) == value for key, value in asked.items() if value and known.get(key)
    )


def promoted(
    build: Mapping[str, Any], images: Iterable[TaggedImage]
) -> list[tuple[TaggedImage, ImageArtifact]]:
    """Return the artifact of each image that is promoted; ImagesError names one that has none."""
    returned: dict[TaggedImage, ImageArtifact] = {}
    for artifact in map(read_artifact, filter(is_image, build.get("artifacts") or ())):
        before = returned.setdefault(artifact.image, artifact)
        if (before.reference, before.digest) != (artifact.reference, artifact.digest):
            raise ImagesError(f"build {build.get('uuid')} has returned {artifact.image} twice")
    found = []
    for image in images:
        if image not in returned:
            there = ", ".join(map(str, returned)) or "none"
            raise ImagesError(
                f"build {build.get('uuid')} has returned no image {shown(str(image))}; "
                f"it has {there}"
            )
        found.append((image, returned[image]))
    return found
