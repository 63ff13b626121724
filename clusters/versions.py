"""Which versions run here, and whether they go with those of the cluster."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping
from importlib import metadata

from clusters.errors import ClusterError

PACKAGE = "rps-search"
# Set for the processes of a submitted search: the versions of the machine that submitted it.
CLIENT_VERSIONS = "RPS_SEARCH_CLIENT_VERSIONS"


def versions() -> dict[str, str]:
    """Return the versions of Ray, Python and this package, by name."""
    return {"ray": metadata.version("ray"), "python": platform.python_version(), PACKAGE: _own_version()}


def check_versions(client: Mapping[str, str], cluster: Mapping[str, str]) -> None:
    """Refuse a cluster that could not run what the client sends; of Python, major and minor version count.

    Args:
        client: Versions where the search is launched.
        cluster: Versions on the cluster; what it does not tell is not compared.

    Raises:
        ClusterError: Naming what differs, with both versions.
    """
    differing = [
        f"{name} is {client[name]} here and {cluster[name]} there"
        for name in client.keys() & cluster.keys()
        if _significant(name, client[name]) != _significant(name, cluster[name])
    ]
    if differing:
        raise ClusterError(f"the cluster runs other versions: {'; '.join(sorted(differing))}; install the same on both")


def submitted() -> bool:
    """Return whether this process is a search that was submitted to the cluster it runs on."""
    return CLIENT_VERSIONS in os.environ


def check_client_versions() -> None:
    """Compare the versions here, in a submitted search, with those where it was submitted.

    Raises:
        ClusterError: If they do not go together.
    """
    client = os.environ.get(CLIENT_VERSIONS)
    if client:
        check_versions(json.loads(client), versions())


def pinned_requirements() -> list[str]:
    """Return what this package needs, each in the version that is installed here, for pip."""
    wanted = metadata.requires(PACKAGE) or []
    names = [re.split(r"[\s<>=!~;\[]", line, maxsplit=1)[0] for line in wanted if "extra ==" not in line]
    # Without what an index of its own adds (2.7.0+cpu): the cluster takes its packages from the usual one.
    pins = {name: metadata.version(name).partition("+")[0] for name in names}
    pins.pop("ray", None)
    return [f"ray[default,tune]=={metadata.version('ray')}", *(f"{name}=={pins[name]}" for name in sorted(pins))]


def python_minor() -> str:
    """Return the version of Python that the cluster must have: major and minor."""
    return _significant("python", platform.python_version())


def _own_version() -> str:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return "not installed"


def _significant(name: str, version: str) -> str:
    return ".".join(version.split(".")[:2]) if name == "python" else version
