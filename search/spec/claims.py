"""Claims: what a study sets out to check, written down before it runs."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, NonNegativeFloat, field_validator, model_validator

from search.errors import unknown_name
from search.spec.fields import Scalar, SpecModel

Relation: TypeAlias = Literal["higher", "lower", "equal", "different"]
# The parts of a trial's configuration; args, data, model and train go on with a dot.
SELECTABLE = ("method", "ratio", "lr", "weight_decay", "args", "data", "model", "train")


class ClaimSpec(SpecModel):
    """One statement about two groups of trials, decided by their test accuracies over seeds.

    Of each group the proposal that is best on validation stands for it, so that each method is judged at the learning
    rate that suits it.
    """

    claim: str = Field(min_length=1, max_length=200)
    """The claim in words."""
    of: dict[str, Scalar | list[Scalar]] = Field(min_length=1)
    """Which trials it is about: fields of their configuration (method, ratio, lr, args.mapping, train.epochs) with the
    value, or list of values, that they must have; of a field that is a list itself (model.exclude), that list."""
    against: dict[str, Scalar | list[Scalar]] = Field(min_length=1)
    """Which trials they are compared with."""
    says: Relation = "higher"
    """How the accuracy of the first compares with that of the second."""
    margin: NonNegativeFloat = 0.01
    """Difference in accuracy, 0 to 1, up to which two are called equal; higher and lower need none."""
    each: str | None = None
    """Judge the claim for each value of this field apart, such as ratio: where ``against`` does not name the field
    itself, both sides have the same value."""

    @field_validator("of", "against")
    @classmethod
    def _fields(cls, wanted: dict[str, Scalar | list[Scalar]]) -> dict[str, Scalar | list[Scalar]]:
        for name in wanted:
            check_field(name)
        return wanted

    @model_validator(mode="after")
    def _each(self) -> ClaimSpec:
        if self.each is not None:
            check_field(self.each)
        return self


def check_field(name: str) -> None:
    """Refuse what is no field of a trial's configuration.

    Raises:
        ValueError: If ``name`` does not begin with one of ``SELECTABLE``.
    """
    if name.partition(".")[0] not in SELECTABLE:
        raise ValueError(unknown_name("field of a trial", name, SELECTABLE))
