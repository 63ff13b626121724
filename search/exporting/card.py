"""The model card: what a person who is handed the file needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def model_card(facts: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Return the card of an exported model as Markdown.

    Args:
        facts: What ``model.json`` holds.
        row: The trial's row of the trials table.
    """
    config, provenance = facts["config"], facts["provenance"]
    channels, height, width = facts["image_shape"]
    versions = ", ".join(_plain(f"{name} {version}") for name, version in provenance.get("versions", {}).items())
    lines = [
        f"# {_plain(config['model']['name'])}, compressed by {_plain(facts['method'])}",
        "",
        "| | |",
        "|---|---|",
        f"| test accuracy | {facts['accuracy']:.2%} |",
        f"| validation accuracy, by which it was chosen | {facts['accuracy_val']:.2%} |",
        f"| stored bytes | {facts['stored_bytes']:,} |",
        f"| stored parameters | {facts['stored_parameters']:,} |",
        f"| compression ratio of the compressed weights | {facts['ratio']:.4g} |",
        f"| operations for one image | {facts['flops'] or 0:,} |",
        f"| data | {_plain(config['data']['name'])}: {facts['classes']} classes, {channels}x{height}x{width} images |",
        f"| training | {facts['epochs_run']} epochs, learning rate {facts['lr']:.4g}, "
        f"weight decay {facts['weight_decay']:.4g}, seed {facts['seed']} |",
        f"| trial | {facts['trial_id']} of experiment {_plain(facts['experiment'])} |",
        f"| made with | {versions} |",
        f"| commit | {_plain(provenance.get('git_commit') or 'unknown')} |",
        "| licence | to be stated by whoever publishes this model |",
        "",
    ]
    budgets = row["budgets"]
    if budgets:
        lines += ["## Budgets", "", "| layers | scalars kept |", "|---|---|"]
        lines += [f"| `{_plain(pattern)}` | {kept:,} |" for pattern, kept in dict(budgets).items()] + [""]
    lines += [
        "## Use",
        "",
        "`rps-search evaluate FOLDER` classifies the test images again and compares with the figure above. In Python:",
        "",
        "```python",
        "from pathlib import Path",
        "from search.exporting import evaluate_bundle, read_bundle",
        "",
        'print(evaluate_bundle(read_bundle(Path("FOLDER"))))',
        "```",
        "",
        "Images are divided by 255, then normalised by "
        f"mean {_numbers(facts['mean'])} and standard deviation {_numbers(facts['std'])}.",
        "",
    ]
    return "\n".join(lines)


def _plain(text: object) -> str:
    """Return a name without what Markdown would read as markup or a cell's end."""
    return "".join(c if c.isalnum() or c in " .:_*+-/[]" else "?" for c in str(text))


def _numbers(values: Any) -> str:
    return "(" + ", ".join(f"{value:.4f}" for value in values) + ")"
