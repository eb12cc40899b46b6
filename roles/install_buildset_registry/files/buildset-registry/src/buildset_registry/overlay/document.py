# SPDX-License-Identifier: Apache-2.0
"""The document of the overlay: which image of another build each name is, and how it is fetched.

::

    {"version": 1,
     "registries": [{"host": "intermediate.example.com:5000", "cert": "-----BEGIN ..."}],
     "handed": [{
        "registry": {"host": "intermediate.example.com:5000", "cert": "-----BEGIN ..."},
        "token": "...", "expires": 1796000000,
        "images": {"quay.io/org/app:latest": {
            "digest": "sha256:...", "repository": "quay.io/org/app",
            "build": "8c15...", "change": "4711,3"}}}]}

The token pulls these images and nothing else. It is in no message, and nor is any other value that
was not expected. ``registries`` are those of which more may come; it need not be there. In the file
alone, ``by`` beside a token tells which client handed it over, and ``ended`` has the images whose
token has ended, as ``handed`` has the others, without a token.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

from buildset_registry.errors import ConfigError, RegistryError
from buildset_registry.image_lock.document import PublicName
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.hosts import RegistryHost
from buildset_registry.oci.names import RepositoryName

VERSION = 1
#: The name of the file in the overlay's folder.
FILE = "images.json"
#: Characters of the identifier of a build or a change.
_LONGEST = 200
_LONGEST_TOKEN = 64 * 1024


def authority_file(cert: str) -> str:
    """Return the name of the file that an authority's PEM is in."""
    return f"ca-{hashlib.sha256(cert.encode()).hexdigest()[:16]}.pem"


@dataclass(frozen=True, slots=True)
class ImageHolder:
    """The registry that holds images of other builds, and the token that it gave for them."""

    host: RegistryHost
    cert: str = ""
    """PEM of its authority; none where that is a public one."""

    token: str = field(default="", repr=False)
    """The token; none where it is kept no longer, since it has ended."""

    expires: float = 0.0
    """When the token ends, in seconds since the epoch."""

    by: str = ""
    """The client that handed it over by a request, in a short form; none where the command did."""

    @property
    def authority(self) -> str | None:
        """The name of the file in the overlay's folder that its authority is in."""
        return authority_file(self.cert) if self.cert else None

    @property
    def ended(self) -> str:
        """When the token ends, for people."""
        when = datetime.fromtimestamp(self.expires, timezone.utc)
        return when.strftime("%Y-%m-%d %H:%M:%S UTC")


@dataclass(frozen=True, slots=True)
class OverlaidImage:
    """An image of another build: what it is called, and where it is."""

    name: PublicName
    digest: Digest
    holder: ImageHolder
    repository: RepositoryName
    """Its repository, as it is called at the registry that holds it."""

    build: str = ""
    change: str = ""

    @property
    def made_by(self) -> str:
        """The build and the change that it is of."""
        build = f"build {self.build}" if self.build else "another build"
        return f"{build} of change {self.change}" if self.change else build

    @property
    def there(self) -> RepositoryName:
        """Its repository as a name that has the registry in it."""
        return RepositoryName(f"{self.holder.host.component}/{self.repository}")


@dataclass(frozen=True)
class Overlay:
    """The images of other builds; of a name that was handed over twice, the last one."""

    images: Mapping[PublicName, OverlaidImage] = field(default_factory=dict)
    registries: Mapping[RegistryHost, str] = field(default_factory=dict)
    """The PEM of the authority of each registry that may hold images."""

    @cached_property
    def by_name(self) -> Mapping[RepositoryName, Sequence[OverlaidImage]]:
        """The images of each repository, the one whose token lasts longest first.

        Tags that were handed over one after the other may be one image, or have parts in common.
        """
        found: dict[RepositoryName, list[OverlaidImage]] = {}
        for image in sorted(self.images.values(), key=lambda one: -one.holder.expires):
            found.setdefault(image.name.name, []).append(image)
        return found

    @cached_property
    def holders(self) -> frozenset[ImageHolder]:
        """The registries that hold them, by their tokens."""
        return frozenset(image.holder for image in self.images.values())

    def without_tokens(self, before: float) -> Overlay:
        """Return the overlay without the tokens that ended before a time; the images stay in it."""
        images = {
            name: replace(image, holder=replace(image.holder, token="", cert=""))
            if image.holder.expires < before
            else image
            for name, image in self.images.items()
        }
        return Overlay(images, self.registries)

    def with_more(self, later: Overlay) -> Overlay:
        """Return the overlay with what was handed over later."""
        return Overlay({**self.images, **later.images}, {**self.registries, **later.registries})

    def dump(self) -> str:
        """Return the text of the file, which holds secrets."""
        groups: dict[ImageHolder, dict[str, object]] = {}
        for name, image in sorted(self.images.items(), key=lambda item: str(item[0])):
            groups.setdefault(image.holder, {})[str(name)] = {
                "digest": str(image.digest),
                "repository": str(image.repository),
                "build": image.build,
                "change": image.change,
            }
        known = [{"host": str(host), "cert": cert} for host, cert in self.registries.items()]
        tree: dict[str, object] = {"version": VERSION, "registries": known}
        tree["handed"] = [_group(one, images) for one, images in groups.items() if one.token]
        tree["ended"] = [_group(one, images) for one, images in groups.items() if not one.token]
        return json.dumps(tree, indent=1) + "\n"

    @classmethod
    def load(cls, folder: Path) -> Overlay:
        """Read the file of a folder; without it nothing is overlaid."""
        file = folder / FILE
        try:
            return cls.parse(file.read_text(encoding="utf-8"), str(file), own=True)
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigError(
                f"cannot read the overlay {file}: {reason}; let the registry's user read it"
            ) from error

    @classmethod
    def parse(cls, text: str, source: str, *, own: bool = False) -> Overlay:
        """Read a text that messages call ``source``; only one's ``own`` tells of ended tokens."""
        where = f"the overlay {source}"
        try:
            tree = _object(json.loads(text), where)
        except (ValueError, RecursionError):
            raise ConfigError(f"{where} is not JSON; have the images handed over again") from None
        if tree.get("version") != VERSION or isinstance(tree["version"], (bool, float)):
            raise ConfigError(
                f"{where} is not of version {VERSION}, which is the one that this program knows; "
                "use the roles and the registry of one release"
            )
        known: dict[RegistryHost, str] = {}
        for number, one in enumerate(_list(tree.get("registries", []), f"{where}: registries")):
            place = f"{where}: registries[{number}]"
            host, cert = _registry(_object(one, place), place)
            known[host] = cert
        images: dict[PublicName, OverlaidImage] = {}
        for number, one in enumerate(_list(tree.get("handed"), f"{where}: handed")):
            images.update(_handed(one, f"{where}: handed[{number}]", own=own))
        holders = {one.holder.host: one.holder.cert for one in images.values()}
        for number, one in enumerate(
            _list(tree.get("ended", []), f"{where}: ended") if own else ()
        ):
            place = f"{where}: ended[{number}]"
            images = _handed(one, place, own=True, ended=True) | images
        return cls(images, holders | known)


def _group(holder: ImageHolder, images: Mapping[str, object]) -> dict[str, object]:
    """Return the images of a token as the file has them."""
    cert = {"cert": holder.cert} if holder.token else {}
    tree: dict[str, object] = {"registry": {"host": str(holder.host), **cert}}
    tree |= {"token": holder.token} if holder.token else {}
    tree |= {"by": holder.by} if holder.by else {}
    return tree | {"expires": holder.expires, "images": images}


def _handed(
    given: object, where: str, *, own: bool, ended: bool = False
) -> dict[PublicName, OverlaidImage]:
    tree = _object(given, where)
    holder = _holder(tree, where, ended=ended)
    if own:
        holder = replace(holder, by=_text(tree, "by", where))
    images = {}
    for key, value in _object(tree.get("images"), f"{where}.images").items():
        image = _image(str(key), value, holder, f"{where}.images[{ascii(key)[:_LONGEST]}]")
        images[image.name] = image
    return images


def _holder(tree: Mapping[str, object], where: str, *, ended: bool) -> ImageHolder:
    expires = tree.get("expires")
    if isinstance(expires, bool) or not isinstance(expires, (int, float)):
        raise ConfigError(f"{where}.expires is no number of seconds since 1970")
    place = f"{where}.registry"
    host, cert = _registry(_object(tree.get("registry"), place), place)
    try:
        datetime.fromtimestamp(expires, timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"{where}.expires is no time") from None
    if ended:
        return ImageHolder(host, expires=float(expires))
    token = _text(tree, "token", where, _LONGEST_TOKEN)
    if not token.isascii() or not token.isprintable() or " " in token or not token:
        raise ConfigError(f"{where}.token is none")
    return ImageHolder(host, cert, token, float(expires))


def _registry(tree: Mapping[str, object], where: str) -> tuple[RegistryHost, str]:
    """Return a registry and the PEM of its authority."""
    try:
        host = RegistryHost.parse(_text(tree, "host", where))
    except RegistryError as error:
        raise ConfigError(f"{where}.host: {error.message}") from None
    cert = tree.get("cert") or ""
    if not isinstance(cert, str) or (cert and "-----BEGIN " not in cert):
        raise ConfigError(f"{where}.cert is no certificate in PEM format")
    return host, cert


def _image(key: str, value: object, holder: ImageHolder, where: str) -> OverlaidImage:
    tree = _object(value, where)
    try:
        return OverlaidImage(
            PublicName.parse(key),
            Digest.parse(_text(tree, "digest", where)),
            holder,
            RepositoryName.parse(_text(tree, "repository", where, 255)),
            _text(tree, "build", where),
            _text(tree, "change", where),
        )
    except RegistryError as error:
        raise ConfigError(f"{where}: {error.message}") from None


def _text(tree: Mapping[str, object], key: str, where: str, longest: int = _LONGEST) -> str:
    value = tree.get(key, "")
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise ConfigError(f"{where}.{key} is no text of at most {longest} characters")
    return value


def _object(tree: object, where: str) -> dict[str, object]:
    if not isinstance(tree, dict):
        raise ConfigError(f"{where} is no JSON object")
    return tree


def _list(tree: object, where: str) -> Iterable[object]:
    if not isinstance(tree, list):
        raise ConfigError(f"{where} is no list")
    return tree
