# SPDX-License-Identifier: Apache-2.0
"""The settings of services that keep what is stored, named as distribution names them.

So a section of a configuration of ``registry:2`` can be pasted. A secret may be a file instead:
``secretkey_file`` for ``secretkey``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import ClassVar, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """A bucket of Amazon S3, or of another service that speaks as it does."""

    bucket: str
    """The name of the bucket, which is there already."""

    region: str | None = None
    """Where the bucket is; by default what the environment says, or ``us-east-1``."""

    regionendpoint: str | None = None
    """The URL of another service than Amazon's; without ``https://``, ``secure`` tells."""

    accesskey: str | None = None
    secretkey: str | None = field(default=None, repr=False)
    sessiontoken: str | None = field(default=None, repr=False)
    """Credentials; without them those of the environment, of a profile, of a role of the machine or
    of the pod."""

    accesskey_file: Path | None = None
    secretkey_file: Path | None = None
    sessiontoken_file: Path | None = None
    """Files that hold them instead."""

    rootdirectory: str = ""
    """The beginning of all keys."""

    secure: bool = True
    """Whether the service is asked by HTTPS where ``regionendpoint`` does not tell."""

    skipverify: bool = False
    """Whether its certificate is not verified."""

    ca: Path | None = None
    """PEM file to verify it with, instead of the system's certificates or ``AWS_CA_BUNDLE``."""

    forcepathstyle: bool | None = None
    """Whether the bucket is named in the path, not in the host; by default with
    ``regionendpoint``."""

    accelerate: bool = False
    """Whether Amazon's transfer acceleration is used."""

    usedualstack: bool = False
    """Whether Amazon's hosts with IPv6 are used."""

    usefipsendpoint: bool = False
    """Whether Amazon's hosts with FIPS 140 are used."""

    encrypt: bool = False
    """Whether the service encrypts what it stores."""

    keyid: str | None = None
    """The KMS key for that."""

    storageclass: str | None = None
    """The storage class of what is stored; by default the bucket's."""

    objectacl: str | None = None
    """The canned ACL of what is stored; by default the bucket's."""

    chunksize: int = 8 * 1024 * 1024
    """Bytes of a part of an upload, at least 5 MiB; a blob has at most 10,000."""

    multipartcopychunksize: int = 32 * 1024 * 1024
    """Bytes of a part of what is copied within the bucket."""

    multipartcopymaxconcurrency: int = 16
    """Such parts that are copied at once."""

    multipartcopythresholdsize: int = 32 * 1024 * 1024
    """Bytes up to which an object is copied whole."""

    useragent: str | None = None
    """The program's name in requests."""

    v4auth: Literal[True] = True
    """Signatures are of version 4."""

    loglevel: Literal["off"] = "off"
    """Requests that fail are in this registry's own log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwiftSettings:
    """A container of OpenStack Swift, or of another service that speaks as it does."""

    container: str
    """The name of the container, which is there already."""

    authurl: str | None = None
    """The URL of Keystone, with its ``/v3``; as all that follows to ``region``, by default what
    the environment says in ``OS_...``."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    """A user and the password."""

    password_file: Path | None = None
    """A file that holds it instead."""

    domain: str | None = None
    domainid: str | None = None
    """The domain of the user, by its name or its identifier; by default ``Default``."""

    tenant: str | None = None
    tenantid: str | None = None
    """The project, by its name or its identifier."""

    tenantdomain: str | None = None
    tenantdomainid: str | None = None
    """The domain of the project; by default the user's."""

    trustid: str | None = None
    """The trust by which the user acts for another one, instead of a project."""

    applicationcredentialid: str | None = None
    applicationcredentialsecret: str | None = field(default=None, repr=False)
    """An application credential, instead of a user and a project."""

    applicationcredentialsecret_file: Path | None = None
    """A file that holds its secret instead."""

    region: str | None = None
    """The region of the container; by default the first that Keystone names."""

    endpointtype: Literal["public", "internal", "admin"] = "public"
    """The network by which the container is reached."""

    prefix: str = ""
    """The beginning of all names of objects."""

    chunksize: int = 16 * 1024 * 1024
    """Bytes of a segment, at least 1 MiB; a larger blob is put together from segments."""

    insecureskipverify: bool = False
    """Whether the certificates of Keystone and Swift are not verified."""

    ca: Path | None = None
    """PEM file to verify them with, instead of the system's certificates or ``OS_CACERT``."""

    secretkey: str | None = field(default=None, repr=False)
    """The key of temporary URLs; by default the one that the container, else the account, has, else
    one is given to the container."""

    secretkey_file: Path | None = None
    """A file that holds it instead."""

    tempurlcontainerkey: bool = False
    """Whether the account's key is left alone where the container has none."""

    tempurlmethods: tuple[str, ...] = ()
    """The methods that the service allows for temporary URLs; by default what it says itself."""

    authversion: Literal[3] = 3
    """Keystone is asked by version 3 of its API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureCredentials:
    """Whoever is allowed to use a container of Azure, if not who has the account's key."""

    type: Literal["default_credentials", "client_secret"] = "default_credentials"
    """What the environment, the machine or the pod has; or an application and its secret."""

    tenantid: str | None = None
    clientid: str | None = None
    """The directory and the application."""

    secret: str | None = field(default=None, repr=False)
    """The application's secret."""

    secret_file: Path | None = None
    """A file that holds it instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureSettings:
    """A container of Azure Blob Storage."""

    accountname: str
    """The name of the storage account."""

    container: str
    """The name of the container, which is there already."""

    accountkey: str | None = field(default=None, repr=False)
    """A key of the account; without it, ``credentials``."""

    accountkey_file: Path | None = None
    """A file that holds it instead."""

    credentials: AzureCredentials = field(default_factory=AzureCredentials)
    """What is used without a key of the account."""

    realm: str = "core.windows.net"
    """The domain of the cloud: ``<accountname>.blob.<realm>`` is asked."""

    serviceurl: str | None = None
    """The URL of the service instead, with the account's name where its host does not have it."""

    rootdirectory: str = ""
    """The beginning of all names of blobs."""

    ca: Path | None = None
    """PEM file to verify the service with, instead of the system's certificates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GcsSettings:
    """A bucket of Google Cloud Storage."""

    bucket: str
    """The name of the bucket, which is there already."""

    keyfile: Path | None = None
    """The JSON file of a service account's key; without it the credentials of the environment, or
    of the machine or the pod."""

    rootdirectory: str = ""
    """The beginning of all names of objects."""

    chunksize: int = 16 * 1024 * 1024
    """Bytes of a part of an upload, at least 1 MiB."""

    endpoint: str | None = None
    """The URL of another service than Google's."""

    ca: Path | None = None
    """PEM file to verify the service with, instead of the system's certificates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OssSettings:
    """A bucket of Alibaba Cloud OSS."""

    bucket: str
    """The name of the bucket, which is there already."""

    region: str
    """Where the bucket is, such as ``oss-cn-hangzhou``."""

    accesskeyid: str | None = None
    accesskeysecret: str | None = field(default=None, repr=False)
    """Credentials; without them those of the environment."""

    accesskeyid_file: Path | None = None
    accesskeysecret_file: Path | None = None
    """Files that hold them instead."""

    endpoint: str | None = None
    """The host of the bucket; by default Alibaba Cloud's, or a domain of one's own."""

    internal: bool = False
    """Whether the bucket is reached by the network inside of its region."""

    secure: bool = True
    """Whether it is asked by HTTPS where ``endpoint`` does not tell."""

    encrypt: bool = False
    """Whether the service encrypts what it stores."""

    encryptionkeyid: str | None = None
    """The KMS key for that."""

    rootdirectory: str = ""
    """The beginning of all keys."""

    chunksize: int = 10 * 1024 * 1024
    """Bytes of a part of an upload, at least 5 MiB; a blob has at most 10,000."""

    ca: Path | None = None
    """PEM file to verify the service with, instead of the system's certificates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudFrontSettings:
    """A distribution of Amazon CloudFront in front of a bucket of S3."""

    baseurl: str
    """Its URL; without a scheme ``https://``."""

    privatekey: Path
    """PEM file of the key that URLs are signed with."""

    keypairid: str
    """The name by which CloudFront knows that key."""

    duration: int = 20 * 60
    """Seconds for which a URL is good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedirectSettings:
    """Whether clients are sent elsewhere for blobs, and where."""

    disable: bool = False
    """Whether all blobs go through this registry, for clients that cannot reach the service."""

    base_url: str | None = None
    """The URL below which another host has what the service has; nothing is signed."""

    cloudfront: CloudFrontSettings | None = None
    """CloudFront in place of S3 itself."""

    except_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """The networks whose clients get blobs from this registry all the same."""

    except_agents: tuple[str, ...] = ()
    """Beginnings of the ``User-Agent`` of clients that do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """One service, and how clients get at what it has."""

    azure: AzureSettings | None = None
    gcs: GcsSettings | None = None
    oss: OssSettings | None = None
    s3: S3Settings | None = None
    swift: SwiftSettings | None = None
    redirect: RedirectSettings = field(default_factory=RedirectSettings)

    SERVICES: ClassVar[Mapping[str, type]] = {
        "azure": AzureSettings,
        "gcs": GcsSettings,
        "oss": OssSettings,
        "s3": S3Settings,
        "swift": SwiftSettings,
    }

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the services that are set: one."""
        return tuple(name for name in self.SERVICES if getattr(self, name) is not None)
