"""Names of what is rendered: objects of Kubernetes, clusters of the clouds, jobs of Slurm."""

from __future__ import annotations

import hashlib
import re

# KubeRay takes 47 characters for a RayJob, Ray's launcher 44 on Compute Engine: both add to the name.
LONGEST = 40
DIGEST = 6


def object_name(name: str) -> str:
    """Return a name as a label of RFC 1035: lower-case letters, digits and hyphens, a letter first, not long.

    Names that lose more than case and punctuation get a digest, so that different ones stay different.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not plain[:1].isalpha():
        plain = f"rps-{plain}".rstrip("-")
    if len(plain) > LONGEST or not name.isascii():
        digest = hashlib.sha256(name.encode()).hexdigest()[:DIGEST]
        plain = f"{plain[: LONGEST - DIGEST - 1].rstrip('-')}-{digest}"
    return plain
