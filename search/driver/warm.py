"""Learning from experiments that are over."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from search.config import NOT_IDENTITY, UnreadableTrialError, recorded_config, recorded_params
from search.driver.experiment import open_experiment
from search.driver.ledger import outcome
from search.errors import UserError
from search.proposing import Past
from search.results.folder import Folder
from search.results.store import ResultStore
from search.space import SETTINGS, Space, Suggestion, locate
from search.spec import Spec

logger = logging.getLogger(__name__)


def earlier_proposals(spec: Spec, space: Space) -> list[Past]:
    """Return what the experiments in ``search.warm_start`` proposed and reached, in the order in which it ended.

    What does not lie in the space of this search is left out, with a warning that counts it.

    Raises:
        UserError: If a folder holds no experiment, one whose trials cannot be read, or one on other data, another model
            or another recipe, whose accuracies say nothing about this one's.
    """
    found: list[Past] = []
    for uri in spec.search.warm_start:
        folder = Folder(uri)
        try:
            old = open_experiment(folder).spec
        except UserError as error:
            raise UserError(f"search.warm_start: {error}") from error
        _check_comparable(old, spec, uri)
        rows = ResultStore(folder).read("trials").to_pylist()
        rows.sort(key=lambda row: row["finished_at"])
        try:
            groups = _by_proposal(rows)
            located = [(locate(space, _suggestion(group[0])), group) for group in groups]
        except UnreadableTrialError as error:
            raise UserError(
                f"search.warm_start: the {error.column} of a trial of {uri} {error.why}; leave it out of the list"
            ) from error
        here = [outcome(suggestion.params, group, spec) for suggestion, group in located if suggestion is not None]
        if len(here) < len(groups):
            logger.warning(
                "search.warm_start: %d of %d proposals of %s lie in the space of this search; the others are left out",
                len(here),
                len(groups),
                uri,
            )
        found += here
    return found


def _suggestion(row: Mapping[str, Any]) -> Suggestion:
    config = recorded_config(row)
    settings: dict[str, Any] = {name: getattr(config, name) for name in SETTINGS}
    return Suggestion(**settings, params=recorded_params(row))


def _by_proposal(rows: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(recorded_config(row).proposal_id, []).append(row)
    return list(groups.values())


def _check_comparable(old: Spec, new: Spec, uri: str) -> None:
    for part, ignored in NOT_IDENTITY.items():
        before = getattr(old, part).model_dump(exclude=ignored)
        now = getattr(new, part).model_dump(exclude=ignored)
        different = [key for key in now if before[key] != now[key]]
        if different:
            key = different[0]
            raise UserError(
                f"search.warm_start: {uri} was trained with {part}.{key} = {before[key]!r}, this experiment has "
                f"{now[key]!r}; leave it out of the list"
            )
