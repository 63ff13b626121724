"""What a folder that somebody else made may have this machine do: build what ships with the package, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.config import TrialConfig, UnreadableTrialError, recorded_config
from search.errors import UserError
from search.registry import DATASETS, METHODS, MODELS

# It holds networks and functions that return them by name; none of them runs what its arguments say.
HARMLESS_MODULES = {"torchvision.models"}


def refuse_foreign_code(config: TrialConfig, where: object) -> None:
    """Refuse a trial that names functions outside the registries, for calling them runs whatever they are.

    Args:
        config: The trial, as the folder has it.
        where: What holds it, for the message.

    Raises:
        UserError: If the method, model or data set is not one of the package's own.
    """
    named = (
        ("method", config.method, METHODS),
        ("model", config.model.name, MODELS),
        ("data set", config.data.name, DATASETS),
    )
    for what, name, table in named:
        if name not in table and not (what == "model" and name.partition(":")[0] in HARMLESS_MODULES):
            raise UserError(
                f"{where}: would run code of its own, {what} {name!r}; add --allow-code if you trust whoever made it"
            )


def config_of(row: Mapping[str, Any]) -> TrialConfig:
    """Return the trial that a row of the trials table tells of.

    Raises:
        UserError: If its configuration is damaged, or of another trial than its id says.
    """
    trial = repr(row["trial_id"])
    try:
        config = recorded_config(row)
    except UnreadableTrialError as error:
        raise UserError(f"trial {trial}: its row holds no configuration that can be read") from error
    if config.trial_id != row["trial_id"]:
        raise UserError(f"trial {trial}: its row holds the configuration of another trial, {config.trial_id}")
    return config
