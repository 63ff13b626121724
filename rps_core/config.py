"""What a user chooses about the compression of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rps_core.budgets import check_budgets, check_patterns, check_ratio
from rps_core.gradient_scaling import DEFAULT_GRADIENT_SCALING, check_gradient_scaling
from rps_core.mappings import mapping_class
from rps_core.quantize import PSI_DTYPES


@dataclass(frozen=True, kw_only=True)
class RPSConfig:
    """How a model is compressed by randomized parameter sharing.

    Attributes:
        ratio: Compression ratio n / m of the layers that no budget claims, >= 1.
        mapping: Name of the mapping from weights to slots: ``random_fold`` (STABLE-RPS), ``roast``, ``robe_z`` or
            ``hashed_net``.
        gradient_scaling: ``load_power(a)`` with 0 <= a <= 2, ``effective_update`` (the paper's), ``curvature`` or
            ``none``; see :mod:`rps_core.gradient_scaling`. With the default the learning rate of the dense model is
            about the best at every ratio, which grows with the ratio under the others.
        seed: Seed of the mapping and of psi, in [0, 2**63).
        init_std: Standard deviation psi is drawn with, > 0. Leave it at 1 for Adam and its kin; plain and momentum
            SGD train the same weights whatever it is, unless ``gradient_scaling`` is ``none``.
        include: Patterns (``fnmatch`` style) of the layers to compress. None means every linear, convolution,
            embedding and attention weight. A pattern reaches any parameter of two or more dimensions, of any module;
            a parameter's full name reaches that parameter whatever its shape.
        exclude: Patterns of layers to leave as they are.
        budgets: Slots of each group of layers, by pattern: a density in (0, 1] or a number of slots. Each pattern
            makes a group with its own psi; layers that no pattern claims share one psi of n / ratio slots.
        psi_dtype: What files store psi as: ``float32``, ``bfloat16`` or ``int8`` (one scale for 256 slots). Training
            always uses the model's own dtype.

    Raises:
        TypeError: If a field has the wrong type.
        ValueError: If a field is out of range.
    """

    ratio: float = 1.0
    mapping: str = "random_fold"
    gradient_scaling: str = DEFAULT_GRADIENT_SCALING
    seed: int = 0
    init_std: float = 1.0
    include: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    budgets: Mapping[str, float] = field(default_factory=dict)
    psi_dtype: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratio", check_ratio(self.ratio))
        mapping_class(self.mapping)
        check_gradient_scaling(self.gradient_scaling)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise TypeError(f"seed must be an integer, but got {self.seed!r}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"0 <= seed < 2**63 must hold, but got seed={self.seed}")
        if isinstance(self.init_std, bool) or not isinstance(self.init_std, int | float):
            raise TypeError(f"init_std must be a number, but got {self.init_std!r}")
        if not (math.isfinite(self.init_std) and self.init_std > 0):
            raise ValueError(f"init_std > 0 must hold, but got init_std={self.init_std}")
        if self.include is not None:
            object.__setattr__(self, "include", check_patterns("include", self.include))
        object.__setattr__(self, "exclude", check_patterns("exclude", self.exclude))
        object.__setattr__(self, "budgets", check_budgets(self.budgets))
        if self.psi_dtype not in PSI_DTYPES:
            raise ValueError(f"psi_dtype must be one of {list(PSI_DTYPES)}, but got {self.psi_dtype!r}")
