"""STABLE-RPS: randomized parameter sharing (arXiv:2310.11611) for PyTorch models."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rps_core.compress import compress_, project_, to_dense
    from rps_core.config import RPSConfig
    from rps_core.files import SavedFile, load_compressed, round_psi_, save_compressed
    from rps_core.summary import CompressionSummary, GroupSummary, compression_summary
else:
    # Imported on first use (PEP 562): rps_core.budgets is pure Python, and who wants only that must not load torch.
    _HOMES = {
        "compress_": "compress",
        "project_": "compress",
        "to_dense": "compress",
        "RPSConfig": "config",
        "SavedFile": "files",
        "load_compressed": "files",
        "round_psi_": "files",
        "save_compressed": "files",
        "CompressionSummary": "summary",
        "GroupSummary": "summary",
        "compression_summary": "summary",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})


__all__ = [
    "CompressionSummary",
    "GroupSummary",
    "RPSConfig",
    "SavedFile",
    "compress_",
    "compression_summary",
    "load_compressed",
    "project_",
    "round_psi_",
    "save_compressed",
    "to_dense",
]
