"""The results of searches: Parquet tables in an experiment folder, questions to them, and the frontier.

Importing this package, and reading results, loads neither torch nor Ray nor Optuna.
"""

from search.results.folder import Entry, Folder
from search.results.load import Results, load
from search.results.schema import SCHEMA_VERSION, TABLES
from search.results.store import ResultStore

__all__ = ["SCHEMA_VERSION", "TABLES", "Entry", "Folder", "ResultStore", "Results", "load"]
