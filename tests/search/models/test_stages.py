from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rps_core.budgets import resolve_budgets
from search.models import build_model, stage_patterns
from search.spec import ModelSpec

NAMES = st.lists(
    st.lists(st.sampled_from(["a", "b", "0", "1", "a[0]", "x*"]), min_size=1, max_size=4).map(".".join),
    unique=True,
    max_size=14,
)


@pytest.mark.parametrize(
    ("name", "patterns"),
    [
        ("resnet20", ["conv1", "layer1.*", "layer2.*", "layer3.*", "fc"]),
        ("vgg11", ["stage1.conv1", "stage2.conv1", "stage3.*", "stage4.*", "stage5.*", "fc"]),
        ("mlp", ["fc1", "fc2", "fc3"]),
        ("vit", ["position", "patches", *(f"blocks.{block}.*" for block in range(6)), "fc"]),
        ("torchvision.models:resnet18", ["conv1", "layer1.*", "layer2.*", "layer3.*", "layer4.*", "fc"]),
    ],
)
def test_stages_of_known_networks(name, patterns, layer_names):
    names = layer_names(build_model(ModelSpec(name=name), data_shape=(3, 32, 32), classes=10, seed=0))
    assert stage_patterns(names) == patterns
    groups = resolve_budgets(dict.fromkeys(names, 4), budgets=dict.fromkeys(patterns, 0.5))
    assert [layer for group in groups for layer in group.layers] == names


def test_a_stage_with_more_than_half_of_the_layers_is_split():
    assert stage_patterns(["features.0", "features.3", "head"]) == ["features.0", "features.3", "head"]
    assert stage_patterns(["body.a.0", "body.a.1", "body.b.0", "body.b.1"]) == ["body.a.*", "body.b.*"]


def test_a_module_with_a_weight_of_its_own_is_apart_from_its_children():
    assert stage_patterns(["a", "a.0", "a.1", "b", "c"]) == ["a", "a.*", "b", "c"]


def test_the_ends():
    assert stage_patterns([]) == []
    assert stage_patterns(["weight"]) == ["weight"]
    assert stage_patterns(["a[0].x", "a[0].y", "b.x", "b.y"]) == ["a[[]0].*", "b.*"]
    with pytest.raises(ValueError, match="every layer name must be there once"):
        stage_patterns(["a", "a"])


@given(NAMES)
def test_patterns_match_every_layer_exactly_once(names):
    patterns = stage_patterns(names)
    for name in names:
        assert sum(fnmatchcase(name, pattern) for pattern in patterns) == 1
    firsts = [next(index for index, name in enumerate(names) if fnmatchcase(name, p)) for p in patterns]
    assert firsts == sorted(firsts)
