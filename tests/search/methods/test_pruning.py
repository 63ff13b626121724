from dataclasses import replace

import pytest
import torch

from search.methods import Workbench, compress
from search.registry import METHODS
from search.trial import workbench

LOOK_AT_DATA = {"snip", "grasp"}
ONE_SHOT = sorted(name for name, function in METHODS.items() if function == "search.methods.pruning:prune")


def spied(config, data) -> tuple[Workbench, list[int]]:
    """A workbench that notes how many images it was asked for."""
    asked: list[int] = []
    bench = workbench(config, data, torch.device("cpu"))

    def batches():
        found = bench.scoring_batches()
        asked.append(sum(len(labels) for _, labels in found))
        return found

    return replace(bench, scoring_batches=batches), asked


@pytest.mark.parametrize("method", ONE_SHOT)
def test_images_are_prepared_only_for_scores_that_look_at_them(method, make_config, tiny_data) -> None:
    bench, asked = spied(make_config(method), tiny_data)
    compress(bench)
    assert asked == ([30] if method in LOOK_AT_DATA else [])


@pytest.mark.parametrize("scorer", ["rand", "mag", "snip", "grasp", "synflow"])
def test_images_are_prepared_only_for_channels_that_are_scored_by_them(scorer, make_config, tiny_data) -> None:
    bench, asked = spied(make_config("channels", args={"scorer": scorer}), tiny_data)
    compress(bench)
    assert asked == ([30] if scorer in LOOK_AT_DATA else [])
