"""STABLE-RPS: randomized parameter sharing (arXiv:2310.11611) for PyTorch models."""

from rps_core.compress import compress_, project_, to_dense
from rps_core.config import RPSConfig
from rps_core.files import SavedFile, load_compressed, save_compressed
from rps_core.summary import CompressionSummary, GroupSummary, compression_summary

__all__ = [
    "CompressionSummary",
    "GroupSummary",
    "RPSConfig",
    "SavedFile",
    "compress_",
    "compression_summary",
    "load_compressed",
    "project_",
    "save_compressed",
    "to_dense",
]
