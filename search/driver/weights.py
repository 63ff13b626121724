"""The file of trained weights that a search starts from: read where the driver is, and told apart by its content."""

from __future__ import annotations

import hashlib

from search.errors import UserError
from search.results.folder import Folder, without_credentials
from search.spec import ModelSpec, Spec


def read_weights(model: ModelSpec) -> bytes | None:
    """Return the content of the file that ``model.weights`` names; None if it names none.

    Raises:
        UserError: If it cannot be read, or is not the file that the search started with.
    """
    if model.weights is None:
        return None
    where = without_credentials(model.weights)
    folder, _, name = model.weights.rpartition("/")
    try:
        content = Folder(folder or ("/" if model.weights.startswith("/") else ".")).read(name)
    except FileNotFoundError as error:
        raise UserError(f"model.weights: {where} does not exist") from error
    except (OSError, ValueError) as error:
        raise UserError(f"model.weights: {where} cannot be read ({error})") from error
    if model.weights_sha256 not in (None, checksum(content)):
        raise UserError(
            f"model.weights: {where} has other content than this search started with (its checksum is not "
            f"model.weights_sha256, {str(model.weights_sha256)[:12]}...); results of both would not compare"
        )
    return content


def pin_weights(spec: Spec) -> Spec:
    """Return a spec that says which content ``model.weights`` has now, so that no other is taken for it later.

    Raises:
        UserError: As :func:`read_weights` does.
    """
    content = read_weights(spec.model)
    if content is None:
        return spec
    return spec.model_copy(update={"model": spec.model.model_copy(update={"weights_sha256": checksum(content)})})


def checksum(content: bytes) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
