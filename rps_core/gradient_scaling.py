"""Gamma, the gradient scaler: what grad psi is divided by before the optimizer sees it.

c_j is the number of weights that slot j serves and lambda_i the scale of the layer of weight i:

- ``effective_update`` (arXiv:2310.11611): Gamma_j = (sum of lambda_i)^2 / c_j.
- ``curvature``: Gamma_j = sum of lambda_i^2.
- ``load_power(a)``: Gamma_j = (sum of lambda_i^2) / c_j^a; a = 0 is ``curvature``.
- ``none``: Gamma_j = 1 (ROAST).

Slots that serve no weight get Gamma_j = 1.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

DEFAULT_GRADIENT_SCALING = "load_power(0.5)"
"""Gradients that meet in a slot cancel like random signs, so that their sum grows like the root of their number and not
like the number by which ``curvature`` divides it. docs/results has the measurements."""

_LOAD_POWER = re.compile(r"load_power\(\s*([0-9.eE+-]+)\s*\)")
_PLAIN = ("effective_update", "curvature", "none")


def check_gradient_scaling(name: str) -> None:
    """Refuse what is no gradient scaling.

    Raises:
        ValueError: If ``name`` is none of the known ones, or the power is outside [0, 2].
    """
    if name in _PLAIN:
        return
    power = _load_power(name)
    if power is None:
        known = [*_PLAIN, "load_power(a)"]
        raise ValueError(f"gradient_scaling must be one of {known}, such as 'load_power(0.5)', but got {name!r}")
    if not 0 <= power <= 2:
        raise ValueError(f"0 <= a <= 2 must hold in load_power(a), but got {name!r}")


def _load_power(name: str) -> float | None:
    match = _LOAD_POWER.fullmatch(name) if isinstance(name, str) else None
    try:
        return float(match.group(1)) if match else None
    except ValueError:
        return None


def gradient_scaler(
    name: str,
    load: npt.NDArray[np.int64],
    scale_sum: npt.NDArray[np.float64],
    square_sum: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return Gamma, ``(slots,)``.

    Args:
        name: One of the module's four.
        load: c_j, uses of each slot, ``(slots,)``.
        scale_sum: Sum of lambda over the weights of each slot, ``(slots,)``.
        square_sum: Sum of lambda squared over the weights of each slot, ``(slots,)``.

    Raises:
        ValueError: If ``name`` is no gradient scaling.
    """
    check_gradient_scaling(name)
    if name == "none":
        return np.ones(len(load))
    uses = np.maximum(load, 1).astype(np.float64)
    power = _load_power(name) or 0.0
    scaler = scale_sum**2 / uses if name == "effective_update" else square_sum / uses**power
    return np.where(load > 0, scaler, 1.0)
