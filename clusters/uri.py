"""URIs of experiment folders: how they are shown, and which a submitted search may have."""

from __future__ import annotations

import re

# A user and a password, which may hold a slash that should have been escaped. What is a port is no password; stores
# of objects have none, and what looks like one there may be the beginning of a secret.
_PASSWORD = re.compile(r"^(?!(?:hdfs|viewfs)://[^/?#@:]*:\d+/)([^:/]+://)([^/?#@:]*):[^?#]*@")
# Azure's options; the other stores have none that are secret.
_SECRET_OPTIONS = {"client_secret", "sig"}

# As pyarrow spells them; it takes capitals for another scheme.
SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs", "file")
_ONE_SLASH = re.compile(rf"^({'|'.join(SCHEMES)}):/*(?=[^/])", re.IGNORECASE)


def misspelt(uri: str) -> str | None:
    """Return how to write what looks like a URI and would be taken for a path, or None if it is fine.

    ``pathlib`` makes ``s3:/bucket`` of ``s3://bucket``: results would land in a folder of that name here.
    """
    match = _ONE_SLASH.match(uri)
    if "://" in uri or not match:
        return None
    scheme = match[1].lower()
    return f"{scheme}://{'/' if scheme == 'file' else ''}{uri[match.end() :]}"


def shown(uri: str) -> str:
    """Return a URI without the key, password or secret that it may hold; all else that opens the folder stays."""
    if "://" not in uri:
        return uri
    place, mark, options = _PASSWORD.sub(_without_password, uri).partition("?")
    kept = [option for option in options.split("&") if option.partition("=")[0] not in _SECRET_OPTIONS]
    return place + mark * bool(kept) + "&".join(kept)


def hiding(message: object, uri: str) -> str:
    """Return what a library said of a URI, with the URI as it is shown: some repeat it whole."""
    return str(message).replace(uri, shown(uri))


def _without_password(match: re.Match[str]) -> str:
    scheme, user = match.groups()
    # Azure writes the container where others write the user.
    return f"{scheme}{user}@" if scheme.startswith("abfs") and user else scheme


def known_schemes() -> str:
    """Return the beginnings of URIs that can be opened, for messages."""
    return ", ".join(f"{scheme}://" for scheme in SCHEMES)


def unsuitable_storage(uri: str) -> str | None:
    """Return why an experiment folder cannot be used by a submitted search, or None if it may."""
    scheme, mark, place = uri.partition("://")
    if mark and scheme not in SCHEMES:
        return f"the storage is {shown(uri)}, of a kind that nothing here opens; known are {known_schemes()}"
    if mark and not place.strip("/"):
        return f"the storage {uri} names no folder; write one such as s3://BUCKET/NAME"
    if scheme == "file" and not place.startswith("/"):
        return f"the storage {uri} names a host; a shared folder has three slashes: file:///{place}"
    if not mark:
        return (
            f"a search on a cluster needs a folder that all machines reach, but {uri!r} is a path of this one; "
            "name s3://BUCKET/NAME, gs://BUCKET/NAME, or file:///PATH of a shared file system"
        )
    if shown(uri) != uri:
        return (
            "the storage of a search on a cluster must hold no credentials, which others would see there; "
            f"write {shown(uri)} and let the machines reach it by their role or their environment variables"
        )
    return None
