"""Cache lines and time of compressed weights: RANDOMFOLD against other mappings and against sparse formats.

Lines of 64 bytes that hold what a range of consecutive weights needs: slots of psi for a mapping (counted by the
mappings' own interface; tables of rotations and signs stay in the cache and are not counted, nor is the index that
PyTorch makes for other mappings than RANDOMFOLD, which adds 12 bytes a weight); values, column numbers and row starts
for CSR; values, bits and row counts for a bitmask. Sparse weights are kept at random. Then the time of recovering a
layer's weights, and of a matrix-vector product with it: shared and bitmask weights are recovered first.

    python benchmarks/cache_lines.py
    python benchmarks/cache_lines.py --threads 1 --clock cpu    # where other work runs beside it
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.weight_recovery import CLOCKS, medians, report
from rps_core.group import Group
from rps_core.kernels import Layer
from rps_core.mappings import MAPPINGS, Block, SlotMapping
from rps_core.mappings.load import FLOATS_PER_LINE
from rps_core.theory import mean_fetches

LINE_BITS = 512


def lines_between(start: npt.NDArray[np.int64], stop: npt.NDArray[np.int64], per_line: int) -> float:
    """Return the mean number of lines that hold the entries ``[start, stop)``; none for an empty range."""
    return float(np.mean(np.where(stop > start, (stop - 1) // per_line - start // per_line + 1, 0)))


def sparse_lines(mask: npt.NDArray[np.bool_], length: int, samples: int = 200) -> dict[str, float]:
    """Return the mean lines that ranges of ``length`` weights of one row need, by format."""
    rows, columns = mask.shape
    before = np.concatenate([[0], np.cumsum(mask.reshape(-1))])
    rng = np.random.default_rng(1)
    start = rng.integers(0, rows, samples) * columns + rng.integers(0, columns - length + 1, samples)
    values = lines_between(before[start], before[start + length], FLOATS_PER_LINE)
    row = start // columns
    ends = lines_between(row, row + 2, FLOATS_PER_LINE)  # 32-bit starts of the row and of the next
    counts = lines_between(row, row + 1, FLOATS_PER_LINE)
    bits = lines_between(start, start + length, LINE_BITS)
    # To find a range, CSR looks at its row's column numbers: those of the range alone are the least it can do.
    return {"csr": 2 * values + ends, "bitmask": values + bits + counts}


def count(shape: tuple[int, int], ratio: float, lengths: list[int]) -> None:
    """Print the cache lines of every method."""
    size = shape[0] * shape[1]
    mask = np.random.default_rng(0).random(shape) < 1 / ratio
    for length in lengths:
        mappings: dict[str, SlotMapping] = {
            name: kind.build([Block(shape)], round(size / ratio), 0) for name, kind in MAPPINGS.items()
        }
        lines = {name: mean_fetches(mapping, length) for name, mapping in mappings.items()}
        lines |= sparse_lines(mask, length)
        contiguous = 1 + (length - 1) / FLOATS_PER_LINE
        for name, value in lines.items():
            sizes = {"method": name, "weights": size, "ratio": ratio, "range": length}
            report("cache_lines", value, "lines", f"dense weights {contiguous:.4g}", **sizes)


def recoveries(shape: tuple[int, int], ratio: float) -> dict[str, Callable[[], Tensor]]:
    """Return for every method a function that recovers the weights of a layer, ``shape``."""
    layer = Layer("weight", (), Block(shape), 0, 0.05)
    found: dict[str, Callable[[], Tensor]] = {}
    for name in MAPPINGS:
        group = Group("*", (layer,), round(layer.block.size / ratio), name, 0, "none")
        psi = torch.randn(group.slots)
        found[name] = lambda group=group, psi=psi: group.recover(psi, (0,))[0]  # type: ignore[misc]
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 1 / ratio
    dense = torch.randn(shape) * mask
    bits = torch.from_numpy(np.packbits(mask.numpy(), axis=None))
    values, csr = dense[mask], dense.to_sparse_csr()

    def from_bits() -> Tensor:
        unpacked = torch.from_numpy(np.unpackbits(bits.numpy(), count=layer.block.size)).view(shape).bool()
        return torch.zeros(shape).masked_scatter_(unpacked, values)

    assert torch.equal(from_bits(), dense)
    return found | {"csr": csr.to_dense, "bitmask": from_bits, "dense": lambda: dense * 0.05, "_csr": lambda: csr}


def clock_all(shape: tuple[int, int], ratio: float, clock: str, repeats: int) -> None:
    """Print the time of recovery and of a matrix-vector product of every method."""
    recover, x = recoveries(shape, ratio), torch.randn(shape[1])
    csr = recover.pop("_csr")()
    dense = recover["dense"]()
    products: dict[str, Callable[[], Tensor]] = {
        name: lambda f=f: f() @ x  # type: ignore[misc]
        for name, f in recover.items()
    }
    products |= {"csr": lambda: csr @ x, "dense": lambda: dense @ x}
    for what, steps in (("recovery", recover), ("matrix_vector", products)):
        took = medians(steps, repeats, "cpu", CLOCKS[clock])  # type: ignore[arg-type]
        for name, seconds in took.items():
            sizes = {"method": name, "weights": shape[0] * shape[1], "ratio": ratio, "clock": clock}
            relative = round(seconds / took["dense"], 3)
            against = "dense scale-and-copy" if what == "recovery" else "dense product"
            threads = torch.get_num_threads()
            report(f"{what}_ms", seconds * 1e3, "ms", against, **sizes, relative=relative, threads=threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=2, default=[2048, 2048])
    parser.add_argument("--ratios", type=float, nargs="+", default=[2, 10, 100])
    parser.add_argument("--ranges", type=int, nargs="+", default=[16, 64, 512], help="at most a row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall", help="cpu: the process's own seconds")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    shape = (args.shape[0], args.shape[1])
    for ratio in args.ratios:
        count(shape, ratio, args.ranges)
        clock_all(shape, ratio, args.clock, args.repeats)


if __name__ == "__main__":
    main()
