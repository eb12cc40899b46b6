# SPDX-License-Identifier: Apache-2.0
"""OSS's words for what is asked of a service of objects (Alibaba Cloud OSS API).

An object is made where there is none by ``x-oss-forbid-overwrite``, by one of two at once. It is
replaced without a condition: OSS has none for that. So an object is looked at before it is
replaced, which two may do at once. Of two requests that go on with one upload at two replicas, the
one that notes it last counts, with the parts as it sent them: where the other one has sent the same
part again, the service refuses to put them together.
"""

from __future__ import annotations

from buildset_registry.config import OssSettings
from buildset_registry.errors import ConfigError
from buildset_registry.store.objects import documents
from buildset_registry.store.objects.buckets import MOST_PARTS, BucketDialect, BucketRules
from buildset_registry.store.objects.connection import ServiceAnswer
from buildset_registry.store.objects.dialect import (
    Abilities,
    Condition,
    ConditionFailed,
    check_part_size,
)
from buildset_registry.store.oss.access import OssAccess

#: distribution's; OSS itself takes parts of 100 KiB.
_LEAST_PART = 5 * 1024 * 1024
_THERE = "FileAlreadyExists"


class OssDialect(BucketDialect):
    """One bucket."""

    def __init__(self, settings: OssSettings, access: OssAccess) -> None:
        check_part_size("oss", settings.chunksize, _LEAST_PART)
        self._settings = settings
        self._oss = access
        rules = BucketRules(
            bucket=settings.bucket,
            prefix="x-oss-",
            stored=_stored_as(settings),
            least_part=_LEAST_PART,
        )
        abilities = Abilities(settings.chunksize, MOST_PARTS, swaps=False)
        super().__init__(access, rules, abilities)

    async def probe(self) -> None:
        answer = await self._first_list()
        if answer.status != 200:
            raise ConfigError(f"storage.oss: {self._connection.told(answer)}; {self._cure(answer)}")
        if b"ListBucketResult" not in answer.content:
            raise ConfigError(
                f"storage.oss: {self._oss.url} does not answer as OSS does; correct endpoint"
            )
        await self._check_uploads()

    async def _conditional(self, key: str, condition: Condition) -> dict[str, str]:
        if condition.version is None:
            return {"x-oss-forbid-overwrite": "true"}
        found = await self.head(key)
        if found is None or found.version != condition.version:
            raise ConditionFailed
        return {}

    def _is_refused(self, answer: ServiceAnswer) -> bool:
        return documents.code(answer) == _THERE

    def _cure(self, answer: ServiceAnswer) -> str:
        """Return what to do about an error at the start."""
        bucket, meant = self._settings.bucket, documents.text_of(answer.content, "Endpoint")
        if documents.is_of_keys(answer):
            return "correct accesskeyid and accesskeysecret, or region, which is signed as well"
        if answer.status == 404:
            return f"make the bucket {bucket}, or correct its name"
        if documents.code(answer) == "RequestTimeTooSkewed":
            return "set the clock of this machine"
        if meant:
            return f"correct region and endpoint: the bucket {bucket} is at {meant}"
        if answer.status == 403:
            return f"allow these credentials to list the bucket {bucket} (oss:ListObjects)"
        return "correct region and endpoint"


def _stored_as(settings: OssSettings) -> dict[str, str]:
    """Return the headers by which an object is stored as it is to be."""
    headers = {"Content-Type": "application/octet-stream"}
    if settings.encrypt:
        name = "x-oss-server-side-encryption"
        headers[name] = "KMS" if settings.encryptionkeyid else "AES256"
        if settings.encryptionkeyid:
            headers[f"{name}-key-id"] = settings.encryptionkeyid
    return headers
