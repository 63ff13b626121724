"""One HTML file from the facts: everything inside it, nothing executed that this package did not write."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import resources

from jinja2 import Environment
from markupsafe import Markup

from search.report.facts import Facts
from search.report.text import interval, number, percent, size

SCRIPTS = ("draw.js", "charts.js", "controls.js")
SECTIONS = {
    "frontier": "Frontier",
    "claims": "Claims",
    "ratio": "Methods",
    "budgets": "Budgets",
    "importances": "Importances",
    "history": "Progress",
    "curves": "Learning",
    "times": "Time",
    "failures": "Failures",
    "reproduce": "Reproduce",
}
_ALWAYS = {"frontier", "failures", "reproduce"}
# What charts.js reads; the rest of the facts is text that the template places.
_DRAWN = (
    *("measure", "measures", "accuracy_label", "experiments", "methods", "dense", "points", "focus", "fronts", "picks"),
    *("ratios", "budgets", "curves", "importances", "times", "history"),
)


def render(facts: Facts) -> str:
    """Return the page.

    Every text from a spec or a table passes the template's escaping or JSON with ``<`` escaped. The policy allows the
    one style and the one script below by their hashes, and no connection, image, frame, form or eval at all.
    """
    style, script = _part("page.css"), _script()
    allowed = f"script-src '{_hash(script)}'; style-src '{_hash(style)}'"
    policy = f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    environment = Environment(autoescape=True, trim_blocks=True)
    environment.filters |= {
        "percent": percent,
        "interval": interval,
        "number": number,
        "bytes": _bytes,
        "count": _count,
    }
    front = facts.fronts[facts.measure].overall if facts.points else []
    return environment.from_string(_part("page.html")).render(
        facts=facts,
        front=[facts.points[index] for index in front],
        picks=[pick for pick in facts.picks if pick.measure == facts.measure],
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        data=Markup(_json(facts)),
        sections=[(id, name) for id, name in SECTIONS.items() if id in _ALWAYS or _shown(facts, id)],
        version=importlib.metadata.version("rps-search"),
        made_at=datetime.now(UTC).strftime("%Y-%m-%d"),
    )


def _shown(facts: Facts, section: str) -> bool:
    return bool(getattr(facts, {"ratio": "ratios"}.get(section, section)))


def _bytes(value: float | None) -> str:
    return "not known" if value is None else size(value, "stored_bytes")


def _count(value: float | None) -> str:
    return "not known" if value is None else f"{value:,.0f}"


def _script() -> str:
    # One function around all of it: nothing leaks into the window, and the pieces see each other's names.
    return '(() => {\n"use strict";\n' + "\n".join(_part(name) for name in SCRIPTS) + "})();\n"


def _part(name: str) -> str:
    return (resources.files("search.report.page") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(facts: Facts) -> str:
    """Return what the pictures need as JSON that cannot close its script element."""
    everything = asdict(facts)
    text = json.dumps({key: everything[key] for key in _DRAWN}, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
