# SPDX-License-Identifier: Apache-2.0
"""Buckets of S3 services, made by botocore's own client: not by what is tested."""

from __future__ import annotations

import uuid
from functools import lru_cache
from typing import Any

from botocore.config import Config as BotoConfig
from botocore.session import Session
from buildset_registry.config import S3Settings

from tests.services import ACCESS, REGION, SECRET, Service


@lru_cache(8)
def client(service: Service) -> Any:
    """Return a client of a service; making one takes a second."""
    return Session().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=service.url,
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        config=BotoConfig(s3={"addressing_style": "path"}),
    )


def new_bucket(service: Service) -> str:
    """Make a bucket that nobody else uses."""
    name = f"bucket-{uuid.uuid4().hex}"
    client(service).create_bucket(Bucket=name)
    return name


def settings(service: Service, bucket: str, **more: Any) -> S3Settings:
    """Return what a registry is told of a bucket."""
    given = {
        "bucket": bucket,
        "region": REGION,
        "regionendpoint": service.url,
        "accesskey": ACCESS,
        "secretkey": SECRET,
    }
    return S3Settings(**{**given, **more})


def keys_in(service: Service, bucket: str) -> list[str]:
    """Return the keys of all objects of a bucket."""
    pages = client(service).get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [one["Key"] for page in pages for one in page.get("Contents", [])]
