"""Early stopping with two objectives. The scheduler for Ray lies in ``tune_scheduler`` and is imported from there."""

from search.stopping.moasha import MOASHA, Verdict, rung_levels

__all__ = ["MOASHA", "Verdict", "rung_levels"]
