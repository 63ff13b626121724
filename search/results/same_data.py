"""What sets experiments apart that would be taken for alike: other data under one name, other specs under one name.

Accuracies on different images cannot be compared. The tables name the data set; how many of its images were used, in
which size and split as how, is in the spec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from search.config import NOT_IDENTITY
from search.errors import UserError
from search.results.load import read_spec
from search.results.merged import FOLDER
from search.results.store import ResultStore
from search.spec import Spec
from search.spec.fields import flattened

# Where the images lie, and how many may be damaged, does not make them others.
_SAME_DATA = {"path", "max_corrupt_fraction"}
# What the seeds of one search share: what its trials are, and how it searches but for how many run at once.
_TRIALS = {**NOT_IDENTITY, "data": _SAME_DATA}
_AT_ONCE = {"concurrency", "pack"}


def data_differences(stores: Sequence[ResultStore]) -> list[str]:
    """Return for each experiment what sets its data apart from that of others with a data set of the same name.

    ``"train_limit=3000, image_size=16"``; empty where nothing does, or where the spec cannot be read.
    """
    return _data_differences([_spec(store) for store in stores])


def _data_differences(specs: Sequence[Spec | None]) -> list[str]:
    known = [spec.data.model_dump(exclude=_SAME_DATA) if spec else {} for spec in specs]
    return _differences(known, [own.get("name", "") for own in known])


def check_same_data(stores: Sequence[ResultStore]) -> None:
    """Refuse to judge claims on different data; there is one store an experiment.

    Raises:
        UserError: If the experiments used different data sets, or different parts of one.
    """
    specs = [_spec(store) for store in stores]
    apart = zip(specs, _data_differences(specs), strict=True)
    names = dict.fromkeys(spec.data.name + (f" ({text})" if text else "") for spec, text in apart if spec)
    if len(names) > 1:
        raise UserError(
            f"claims compare accuracies on the same data, but these experiments used {' and '.join(names)}; "
            "judge each alone"
        )


def spec_differences(stores: Sequence[ResultStore], names: Sequence[str]) -> list[str]:
    """Return for each experiment what sets its search apart from others of the same of ``names``.

    The seed does not, nor how many trials run at once.
    """
    return _differences([flattened(_search(spec)) if spec else {} for spec in map(_spec, stores)], names)


def tell_apart(trials: pa.Table, stores: Sequence[ResultStore]) -> pa.Table:
    """Return trials of several experiments, with what sets their data apart in the column ``dataset``."""
    apart = data_differences(stores)
    if not any(apart):
        return trials
    place = trials.schema.get_field_index("dataset")
    names = trials["dataset"].cast(pa.string())
    suffixes = pa.array([f" ({text})" if text else "" for text in apart]).take(trials[FOLDER].combine_chunks())
    labels = pc.binary_join_element_wise(names, suffixes, "")
    encoded = pa.types.is_dictionary(trials.schema.field(place).type)
    return trials.set_column(place, "dataset", pc.dictionary_encode(labels) if encoded else labels)


def _differences(known: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    found = []
    for own, name in zip(known, names, strict=True):
        alike = [other for other, its in zip(known, names, strict=True) if other and its == name]
        fields = [field for field in own if any(other.get(field) != own[field] for other in alike)]
        found.append(", ".join(f"{field}={'null' if own[field] is None else own[field]}" for field in fields))
    return found


def _search(spec: Spec) -> dict[str, Any]:
    parts = {part: getattr(spec, part).model_dump(mode="json", exclude=out) for part, out in _TRIALS.items()}
    rest = spec.model_dump(mode="json", include={"trials": True, "repeats": True, "objectives": True, "space": True})
    return {**parts, **rest, "search": spec.search.model_dump(mode="json", exclude=_AT_ONCE)}


def _spec(store: ResultStore) -> Spec | None:
    try:
        return read_spec(store.folder)
    except UserError:  # a damaged spec keeps no results back
        return None
