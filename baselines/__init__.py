"""Pruning, lottery tickets and small models: what parameter sharing is compared against."""
