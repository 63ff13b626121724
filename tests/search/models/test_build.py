"""The contract of every model, over the whole registry, and what a user's function may get wrong."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import nn

from search.errors import UserError
from search.models import build_model
from search.registry import MODELS
from search.spec import ModelSpec

CIFAR = (3, 32, 32)


def build(name, shape=CIFAR, classes=10, width=1.0, seed=0, **args):
    return build_model(ModelSpec(name=name, args=args), data_shape=shape, classes=classes, width=width, seed=seed)


@pytest.fixture
def user(monkeypatch):
    """Make a function the user's model and return its name."""

    def _user(function):
        module = types.ModuleType("users_models")
        module.make = function
        monkeypatch.setitem(sys.modules, "users_models", module)
        return "users_models:make"

    return _user


@pytest.mark.parametrize("name", MODELS)
def test_every_model_maps_images_to_classes_and_learns_in_every_parameter(name):
    model = build(name, shape=(1, 32, 32), classes=7)
    assert model.training
    logits = model(torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (4, 7)
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_alone_decides_the_weights(name):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = build(name, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    same, other = build(name, seed=1).state_dict(), build(name, seed=2).state_dict()
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", MODELS)
def test_half_the_width_is_about_a_quarter_of_the_memory(name, count_parameters):
    full, half = count_parameters(build(name)), count_parameters(build(name, width=0.5))
    assert 0.2 < half / full < (0.55 if name == "mlp" else 0.3)  # an mlp's first layer has a fixed fan-in


@pytest.mark.parametrize("name", MODELS)
def test_the_narrowest_model_still_works(name):
    assert build(name, width=1e-3)(torch.zeros(2, *CIFAR)).shape == (2, 10)


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"vgg11", "vgg16"}))
def test_models_for_digits_take_eight_pixels(name):
    assert build(name, shape=(1, 8, 8))(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_a_torchvision_model_is_built_by_its_name(count_parameters):
    assert count_parameters(build("torchvision.models:resnet18")) == 11_181_642


def test_args_reach_the_function(user):
    def make(num_classes, depth, image_size):
        make.got = num_classes, depth, image_size
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))

    build(user(make), depth=3)
    assert make.got == (10, 3, 32)


def test_the_specs_width_and_the_methods_multiply(count_parameters):
    spec = ModelSpec(name="resnet20", args={"width": 2})
    narrowed = build_model(spec, data_shape=CIFAR, classes=10, width=0.5, seed=0)
    assert count_parameters(narrowed) == count_parameters(build("resnet20"))
    full = build_model(spec, data_shape=CIFAR, classes=10, seed=0)
    assert full.fc.in_features == 128


def test_probing_leaves_batch_norm_statistics_untouched():
    assert torch.equal(build("resnet20").bn1.running_mean, torch.zeros(16))


def flat(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda num_classes: "a network", r"must return a torch.nn.Module, not str"),
        (lambda num_classes: flat(5), r"must map 2 images of shape 3x32x32 to \(2, 10\), .* but gave \(2, 5\)"),
        (lambda num_classes: nn.Conv2d(3, num_classes, 1), r".* but gave \(2, 10, 32, 32\)"),
        (lambda num_classes: nn.LSTM(32, num_classes), r"cannot take images of shape 3x32x32: .+"),
        (lambda num_classes: nn.Linear(-1, num_classes), r"cannot be built with num_classes=10: .+"),
        (
            lambda num_classes, needed: flat(num_classes),
            r"its argument 'needed' has no value: give it one in model\.args, or call it num",
        ),
    ],
)
def test_what_a_users_function_gets_wrong_is_said(user, function, message):
    with pytest.raises(UserError, match=rf"model 'users_models:make': (the function )?{message}") as refused:
        build(user(function))
    assert "\n" not in str(refused.value)


def test_unknown_arguments_name_the_nearest(user):
    with pytest.raises(UserError, match=r"'hiden': did you mean 'hidden'\? known are hidden"):
        build("mlp", hiden=[3])
    with pytest.raises(UserError, match=r"model.args.num_classes: leave it out"):
        build("mlp", num_classes=3)
    with pytest.raises(UserError, match=r"cannot be built with num_classes=10, depht=3"):
        build("torchvision.models:resnet18", depht=3)


def test_a_model_without_width_cannot_be_made_smaller():
    with pytest.raises(UserError, match=r"has no argument 'width', so it cannot be made smaller \(width=0.5\)"):
        build("torchvision.models:resnet18", width=0.5)


def test_grey_images_into_a_model_for_colour_are_refused():
    with pytest.raises(UserError, match=r"cannot take images of shape 1x32x32: .*channels"):
        build("torchvision.models:resnet18", shape=(1, 32, 32))


def test_images_that_are_not_square_are_refused_where_the_model_needs_a_side():
    with pytest.raises(UserError, match=r"takes square images, but these are 16 x 32: set data.image_size"):
        build("mlp", shape=(1, 16, 32))


def test_unknown_models_are_refused():
    with pytest.raises(UserError, match=r"cannot import nowhere"):
        build("nowhere:net")
    with pytest.raises(UserError, match=r"model 'torch:zeros': must be a function that builds"):
        build("torch:zeros")
    with pytest.raises(UserError, match=r"search.models.mlp has no function 'mpl'"):
        build("search.models.mlp:mpl")


@pytest.mark.parametrize(
    ("name", "shape", "args", "message"),
    [
        ("vgg11", (1, 8, 8), {}, r"image_size >= 32 must hold .*but got 8; set data.image_size=32"),
        ("mlp", CIFAR, {"hidden": [16, 0]}, r"every hidden size must be at least 1, but got hidden=\[16, 0\]"),
        ("vit", CIFAR, {"patch_size": 5}, r"image_size=32 and patch_size=5"),
        ("vit", CIFAR, {"heads": 0}, r"heads must be a whole number of at least 1, but got heads=0"),
        ("vit", CIFAR, {"depth": 2.5}, r"depth must be a whole number of at least 1, but got depth=2.5"),
        ("vit", CIFAR, {"dim": 130}, r"dim must be a multiple of heads, but got dim=130 and heads=4"),
    ],
)
def test_impossible_sizes_are_refused(name, shape, args, message):
    with pytest.raises(UserError, match=message):
        build(name, shape=shape, **args)


def test_a_width_of_zero_is_refused():
    with pytest.raises(UserError, match=r"width > 0 must hold, but got width=0"):
        build("resnet20", width=0.0)
