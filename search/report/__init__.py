"""The report of a search: one HTML file that needs nothing else, and its pictures as PNG and SVG."""

from search.report.facts import Facts
from search.report.gather import gather
from search.report.write import write_report

__all__ = ["Facts", "gather", "write_report"]
