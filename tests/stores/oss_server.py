# SPDX-License-Identifier: Apache-2.0
"""A server of OSS's protocol with one bucket in memory, as small as can be, strict on signatures.

Written from the documentation of its API: what is asked of it has to be signed by version 4 with
the key that it was started with, in the header or in the URL, or it is refused.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET, REGION, KEY = "tests", "cn-test", "tests"
SECRET = "OSS_SERVER_SECRET"
_ALGORITHM = "OSS4-HMAC-SHA256"
_SKEW = 15 * 60


@dataclass
class Stored:
    """An object, or a part of one."""

    content: bytes
    etag: str
    changed: float = field(default_factory=time.time)


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


def signature(secret: str, stamp: str, region: str, request: str) -> str:
    """Return the signature of a canonical request."""
    scope = f"{stamp[:8]}/{region}/oss/aliyun_v4_request"
    hashed = hashlib.sha256(request.encode()).hexdigest()
    key = b"aliyun_v4" + secret.encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashed}"
    return hmac.digest(key, text.encode(), "sha256").hex()


def canonical(
    method: str, resource: str, query: Mapping[str, str], headers: Mapping[str, str]
) -> str:
    """Return a request as it is signed; no further headers."""
    pairs = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in query.items())
    told = "&".join(f"{name}={value}" if value else name for name, value in pairs)
    signed = sorted(
        (name.lower(), value.strip())
        for name, value in headers.items()
        if name.lower() in ("content-type", "content-md5") or name.lower().startswith("x-oss-")
    )
    lines = "".join(f"{name}:{value}\n" for name, value in signed)
    return f"{method}\n{quote(resource, safe='/')}\n{told}\n{lines}\n\nUNSIGNED-PAYLOAD"


class Bucket:
    """The objects of the bucket, and the uploads in parts."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, tuple[str, float, dict[int, Stored]]] = {}
        self.numbers = itertools.count(1)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    bucket: ClassVar[Bucket]
    secret: ClassVar[str]

    def log_message(self, format: str, *words: object) -> None:
        """Say nothing."""

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        self.key = unquote(parts.path)[1:]
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._verify()
            with self.bucket.lock:
                status, headers, content = self._act()
        except Refused as refused:
            status, headers = refused.status, {}
            content = f"<Error><Code>{refused.code}</Code><Message>told</Message></Error>".encode()
        self.send_response(status)
        told = {"x-oss-request-id": "1", "Content-Length": str(len(content)), **headers}
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _verify(self) -> None:
        query, headers = dict(self.query), dict(self.headers.items())
        if "x-oss-signature" in query:
            told = query.pop("x-oss-signature")
            stamp, credential = query["x-oss-date"], query["x-oss-credential"]
            begun = time.mktime(time.strptime(stamp, "%Y%m%dT%H%M%SZ")) - time.timezone
            if time.time() > begun + int(query["x-oss-expires"]):
                raise Refused(403, "AccessDenied")
        else:
            pattern = rf"{_ALGORITHM} Credential=([^,]+),Signature=([0-9a-f]+)"
            match = re.fullmatch(pattern, headers.get("Authorization", ""))
            if match is None or "x-oss-content-sha256" not in headers:
                raise Refused(403, "AccessDenied")
            stamp, credential, told = headers["x-oss-date"], match[1], match[2]
            begun = time.mktime(time.strptime(stamp, "%Y%m%dT%H%M%SZ")) - time.timezone
            if abs(time.time() - begun) > _SKEW:
                raise Refused(403, "RequestTimeTooSkewed")
        if credential.partition("/")[0] != KEY:
            raise Refused(403, "InvalidAccessKeyId")
        request = canonical(self.command, f"/{BUCKET}/{self.key}", query, headers)
        if not hmac.compare_digest(told, signature(self.secret, stamp, REGION, request)):
            raise Refused(403, "SignatureDoesNotMatch")

    def _act(self) -> tuple[int, dict[str, str], bytes]:
        if not self.key:
            return 200, {}, (self._uploads() if "uploads" in self.query else self._list()).encode()
        if "uploads" in self.query or "uploadId" in self.query:
            return self._part()
        objects = self.bucket.objects
        if self.command == "DELETE":
            objects.pop(self.key, None)
            return 204, {}, b""
        if self.command == "PUT":
            if self.headers.get("x-oss-forbid-overwrite") == "true" and self.key in objects:
                raise Refused(409, "FileAlreadyExists")
            objects[self.key] = stored = self._received()
            return 200, {"ETag": stored.etag}, b"<CopyObjectResult></CopyObjectResult>"
        return self._read(objects)

    def _read(self, objects: dict[str, Stored]) -> tuple[int, dict[str, str], bytes]:
        if self.key not in objects:
            raise Refused(404, "NoSuchKey")
        stored = objects[self.key]
        headers = {"ETag": stored.etag, "Last-Modified": formatdate(stored.changed, usegmt=True)}
        size = len(stored.content)
        if self.command == "HEAD":
            return 200, {**headers, "Content-Length": str(size)}, b""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is None or int(match[1]) >= size:
            return 200, headers, stored.content
        first, last = int(match[1]), min(int(match[2] or size), size - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return 206, headers, stored.content[first : last + 1]

    def _received(self) -> Stored:
        """Return what a request brings, or copies."""
        source, content = self.headers.get("x-oss-copy-source"), self.body
        if source is not None:
            found = self.bucket.objects.get(unquote(source).removeprefix(f"/{BUCKET}/"))
            if found is None:
                raise Refused(404, "NoSuchKey")
            content = found.content
            match = re.fullmatch(
                r"bytes=(\d+)-(\d+)", self.headers.get("x-oss-copy-source-range", "")
            )
            content = content[int(match[1]) : int(match[2]) + 1] if match else content
        return Stored(content, f'"{hashlib.md5(content).hexdigest().upper()}"')  # noqa: S324 - as OSS

    def _part(self) -> tuple[int, dict[str, str], bytes]:
        uploads = self.bucket.uploads
        if self.command == "POST" and "uploads" in self.query:
            name = f"upload+{next(self.bucket.numbers)}"
            uploads[name] = (self.key, time.time(), {})
            return 200, {}, f"<R><UploadId>{name}</UploadId></R>".encode()
        name = self.query["uploadId"]
        if name not in uploads or uploads[name][0] != self.key:
            raise Refused(404, "NoSuchUpload")
        parts = uploads[name][2]
        if self.command == "DELETE":
            del uploads[name]
            return 204, {}, b""
        if self.command == "PUT":
            parts[int(self.query["partNumber"])] = stored = self._received()
            return 200, {"ETag": stored.etag}, f"<R><ETag>{stored.etag}</ETag></R>".encode()
        return self._complete(name, parts)

    def _complete(self, name: str, parts: dict[int, Stored]) -> tuple[int, dict[str, str], bytes]:
        pattern = r"<PartNumber>(\d+)</PartNumber><ETag>(.*?)</ETag>"
        told = [
            (int(number), tag.replace("&quot;", '"'))
            for number, tag in re.findall(pattern, self.body.decode())
        ]
        if any(number not in parts or parts[number].etag != tag for number, tag in told):
            raise Refused(400, "InvalidPart")
        if any(len(parts[number].content) < 100 * 1024 for number, _tag in told[:-1]):
            raise Refused(400, "EntityTooSmall")
        content = b"".join(parts[number].content for number, _tag in told)
        tag = base64.b16encode(os.urandom(16)).decode()
        self.bucket.objects[self.key] = Stored(content, f'"{tag}-{len(told)}"')
        del self.bucket.uploads[name]
        return 200, {}, b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"

    def _list(self) -> str:
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter", "")
        after, most = self.query.get("continuation-token", ""), int(self.query.get("max-keys", 100))
        found: dict[str, str] = {}
        for key, one in self.bucket.objects.items():
            if not key.startswith(prefix):
                continue
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut >= 0:
                inner = f"<Prefix>{escape(key[: cut + 1])}</Prefix>"
                found[key[: cut + 1]] = f"<CommonPrefixes>{inner}</CommonPrefixes>"
                continue
            found[key] = (
                f"<Contents><Key>{escape(key)}</Key><LastModified>{_time(one.changed)}"
                f"</LastModified><ETag>{one.etag}</ETag><Size>{len(one.content)}</Size></Contents>"
            )
        names = sorted(name for name in found if name > after)
        more = len(names) > most
        ends = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        if more:
            ends += f"<NextContinuationToken>{escape(names[most - 1])}</NextContinuationToken>"
        inner = "".join(found[name] for name in names[:most])
        return f"<ListBucketResult>{ends}{inner}</ListBucketResult>"

    def _uploads(self) -> str:
        prefix, most = self.query.get("prefix", ""), int(self.query.get("max-uploads", 3))
        after = (self.query.get("key-marker", ""), self.query.get("upload-id-marker", ""))
        found = sorted(
            (key, name, begun)
            for name, (key, begun, _parts) in self.bucket.uploads.items()
            if key.startswith(prefix) and (key, name) > after
        )
        inner = "".join(
            f"<Upload><Key>{escape(key)}</Key><UploadId>{name}</UploadId>"
            f"<Initiated>{_time(begun)}</Initiated></Upload>"
            for key, name, begun in found[:most]
        )
        more = len(found) > most
        inner += f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        if more:
            key, name, _begun = found[most - 1]
            inner += f"<NextKeyMarker>{escape(key)}</NextKeyMarker>"
            inner += f"<NextUploadIdMarker>{name}</NextUploadIdMarker>"
        return f"<ListMultipartUploadsResult>{inner}</ListMultipartUploadsResult>"


def _time(seconds: float) -> str:
    return (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03}Z"
    )


def main(port: int) -> None:
    """Serve until the process ends."""
    Handler.bucket, Handler.secret = Bucket(), os.environ[SECRET]
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
