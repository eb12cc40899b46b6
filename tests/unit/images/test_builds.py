# SPDX-License-Identifier: Apache-2.0
"""The build that is promoted: one that succeeded, of this job and change, with these images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from buildset_images.builds import BuildQuery, newest_success, promoted
from buildset_images.errors import ImagesError
from buildset_images.images import TaggedImage
from buildset_images.transfers import fetch

from tests.unit.images.test_artifacts import BUILD, given

QUERY = BuildQuery(
    api="https://zuul.example.com/api/tenant/example/",
    job="build-image",
    pipeline="gate",
    change="42",
    patchset="3",
)


def build(uuid: str, result: str | None, **more: Any) -> dict[str, Any]:
    """Return a build as the API tells of it."""
    ref = {"change": 42, "patchset": "3", "newrev": None}
    return {"uuid": uuid, "job_name": "build-image", "result": result, "ref": ref, **more}


def test_the_newest_that_succeeded_is_taken() -> None:
    """Not the first one whatever its result."""
    answer = [build("c", None), build("b", "FAILURE"), build("a", "SUCCESS"), build("0", "SUCCESS")]
    assert newest_success(answer, QUERY)["uuid"] == "a"


def test_a_build_of_something_else_is_not_taken() -> None:
    """An API that does not know a word of the question tells of everything."""
    others = [
        build("d", "SUCCESS", job_name="another"),
        build("c", "SUCCESS", ref={"change": 41, "patchset": "3"}),
        build("b", "SUCCESS", ref={"change": 42, "patchset": "2"}),
    ]
    assert newest_success([*others, build("a", "SUCCESS")], QUERY)["uuid"] == "a"
    with pytest.raises(ImagesError, match="there is no build of job build-image for change 42,3"):
        newest_success(others, QUERY)


def test_a_build_that_failed_is_not_promoted() -> None:
    """The line says which one it was, and its result."""
    with pytest.raises(ImagesError, match="the newest, b, has POST_FAILURE"):
        newest_success([build("b", "POST_FAILURE"), build("a", "FAILURE")], QUERY)


def test_a_buildset_names_its_builds() -> None:
    """Of another pipeline's buildset, or the own one, the API tells all builds."""
    query = replace(QUERY, buildset="f00", change="", patchset="")
    assert query.url == "https://zuul.example.com/api/tenant/example/buildset/f00"
    builds = [build("a", "SUCCESS", job_name="other"), build("b", "SUCCESS", ref={"change": 1})]
    assert newest_success({"builds": builds}, query)["uuid"] == "b"


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        (QUERY, "change=42&patchset=3&pipeline=gate&job_name=build-image"),
        (
            replace(QUERY, change="", patchset="", newrev="abc", pipeline=""),
            "newrev=abc&job_name=build-image",
        ),
        (replace(QUERY, patchset="a&b"), "patchset=a%26b&pipeline"),
    ],
)
def test_the_question_names_job_and_change(query: BuildQuery, asked: str) -> None:
    """As zuul-jobs asks it, with what is asked quoted."""
    assert query.url.startswith("https://zuul.example.com/api/tenant/example/builds?")
    assert asked in query.url


@pytest.mark.parametrize("answer", [{}, {"description": "not found"}, None, ["build"], "text"])
def test_an_answer_without_builds_is_told(answer: Any) -> None:
    """Of another service, or a page for people."""
    with pytest.raises(ImagesError, match="did not answer with builds"):
        newest_success(answer, QUERY)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"api": ""}, "promote_container_image_api is not set"),
        ({"job": ""}, "promote_container_image_job is not set"),
        ({"change": ""}, "for no change and no commit"),
    ],
)
def test_a_question_that_any_build_answers_is_refused(change: dict[str, str], said: str) -> None:
    """It would promote what nobody asked for."""
    with pytest.raises(ImagesError, match=said):
        replace(QUERY, **change).check()
    QUERY.check()


def test_each_image_has_the_artifact_of_its_name() -> None:
    """Repository and tag say which; an image that the build does not have is named."""
    image = TaggedImage("quay.io/org/app", "latest")
    done = build(BUILD, "SUCCESS", artifacts=[{"name": "logs", "url": "x"}, given()])
    ((wanted, artifact),) = promoted(done, [image])
    assert (wanted, artifact.reference) == (image, f"{BUILD}_latest")
    with pytest.raises(ImagesError, match=r"no image 'org/b:v1'; it has quay.io/org/app:latest"):
        promoted(done, [TaggedImage("org/b", "v1")])


def test_two_artifacts_of_one_image_are_refused() -> None:
    """Nobody knows which one was tested; twice the same is no matter."""
    image = TaggedImage("quay.io/org/app", "latest")
    other = given("f" * 32)
    assert promoted(build("a", "SUCCESS", artifacts=[given(), given()]), [image])
    with pytest.raises(ImagesError, match=r"has returned quay\.io/org/app:latest twice"):
        promoted(build("a", "SUCCESS", artifacts=[given(), other]), [image])


@pytest.mark.parametrize("api", ["zuul.example.com/api/tenant/example", "ftp://zuul/", "https://"])
def test_an_address_that_is_none_is_told_as_such(api: str) -> None:
    """A scheme is soon forgotten."""
    query = replace(QUERY, api=api)
    with pytest.raises(ImagesError, match=r"Zuul's API cannot be asked: .* not an https:// URL"):
        fetch(query.url, 1, 0.01)
