# SPDX-License-Identifier: Apache-2.0
"""S3's words for what is asked of a service of objects (Amazon S3 API Reference, 2006-03-01)."""

from __future__ import annotations

from buildset_registry.config import S3Settings
from buildset_registry.errors import ConfigError
from buildset_registry.store.objects import documents
from buildset_registry.store.objects.buckets import MOST_PARTS, BucketDialect, BucketRules
from buildset_registry.store.objects.connection import ServiceAnswer
from buildset_registry.store.objects.dialect import Abilities, Condition, check_part_size
from buildset_registry.store.s3.access import S3Access

_LEAST_PART = 5 * 1024 * 1024
_REGIONS = frozenset(
    {
        *(
            "AuthorizationHeaderMalformed",
            "PermanentRedirect",
            "IllegalLocationConstraintException",
        ),
        *("TemporaryRedirect", "InvalidRegion"),
    }
)


class S3Dialect(BucketDialect):
    """One bucket."""

    def __init__(self, settings: S3Settings, access: S3Access) -> None:
        check_part_size("s3", settings.chunksize, _LEAST_PART)
        self._settings = settings
        self._s3 = access
        rules = BucketRules(
            bucket=settings.bucket,
            prefix="x-amz-",
            stored=_stored_as(settings),
            least_part=_LEAST_PART,
            copied_whole=settings.multipartcopythresholdsize,
            copied_part=settings.multipartcopychunksize,
            copied_at_once=settings.multipartcopymaxconcurrency,
        )
        super().__init__(access, rules, Abilities(settings.chunksize, MOST_PARTS, stages=True))

    async def probe(self) -> None:
        answer = await self._first_list()
        if answer.status != 200:
            cure = _cure(answer, self._settings.bucket, self._s3.region)
            raise ConfigError(f"storage.s3: {self._connection.told(answer)}; {cure}")
        if b"ListBucketResult" not in answer.content:
            raise ConfigError(
                f"storage.s3: {self._s3.url} does not answer as S3 does; correct regionendpoint"
            )
        await self._check_uploads()

    async def _conditional(self, key: str, condition: Condition) -> dict[str, str]:
        name = "If-None-Match" if condition.version is None else "If-Match"
        return {name: condition.version or "*"}

    def _is_refused(self, answer: ServiceAnswer) -> bool:
        # A bucket that is full is a conflict to some services.
        conflict = answer.status == 409 and "quota" not in documents.code(answer).lower()
        return answer.status == 412 or conflict or documents.is_absent(answer)


def _stored_as(settings: S3Settings) -> dict[str, str]:
    """Return the headers by which an object is stored as it is to be."""
    headers = {"Content-Type": "application/octet-stream"}
    if settings.encrypt:
        headers["x-amz-server-side-encryption"] = "aws:kms" if settings.keyid else "AES256"
        if settings.keyid:
            headers["x-amz-server-side-encryption-aws-kms-key-id"] = settings.keyid
    if settings.storageclass:
        headers["x-amz-storage-class"] = settings.storageclass
    if settings.objectacl:
        headers["x-amz-acl"] = settings.objectacl
    if settings.useragent:
        headers["User-Agent"] = settings.useragent
    return headers


def _cure(answer: ServiceAnswer, bucket: str, region: str) -> str:
    """Return what to do about an error at the start."""
    named = documents.code(answer)
    if documents.is_of_keys(answer):
        return "correct accesskey and secretkey"
    if answer.status == 404:
        return f"make the bucket {bucket}, or correct its name"
    if named == "RequestTimeTooSkewed":
        return "set the clock of this machine"
    if named in _REGIONS or answer.status in (301, 307):
        content = answer.content
        meant = documents.text_of(content, "Region") or documents.text_of(content, "Endpoint")
        return f"correct region, which is {region}{' and not ' if meant else ''}{meant}"
    if answer.status == 403:
        return f"allow these credentials to list the bucket {bucket} (s3:ListBucket)"
    return f"correct regionendpoint, or the name of the bucket {bucket}"
