"""What every mapping must hold to, and what sets RANDOMFOLD apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rps_core.mappings import MAPPINGS, Block, RandomFold, Roast, cache_lines, load, mapping_class

NAMES = sorted(MAPPINGS)
shapes = st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=3), min_size=1, max_size=4)


def build(name, sizes, slots, seed, table=False):
    return MAPPINGS[name].build([Block(tuple(shape), table) for shape in sizes], slots, seed)


@settings(max_examples=60)
@given(name=st.sampled_from(NAMES), sizes=shapes, table=st.booleans(), seed=st.integers(0, 2**63 - 1), data=st.data())
def test_contract(name, sizes, table, seed, data):
    n = sum(int(np.prod(shape)) for shape in sizes)
    m = data.draw(st.integers(1, n))
    mapping = build(name, sizes, m, seed, table)
    slots, signs = mapping.slots_of(0, n), mapping.signs_of(0, n)
    assert (mapping.virtual_size, mapping.slots) == (n, m)
    assert slots.shape == signs.shape == (n,)
    assert slots.min() >= 0
    assert slots.max() < m
    assert set(signs.tolist()) <= {-1, 1}
    start, stop = sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n))))
    assert (mapping.slots_of(start, stop) == slots[start:stop]).all()
    assert (mapping.signs_of(start, stop) == signs[start:stop]).all()
    assert (load(mapping) == np.bincount(slots, minlength=m)).all()
    again = build(name, sizes, m, seed, table)
    assert (again.slots_of(0, n) == slots).all()


@settings(max_examples=60)
@given(n=st.integers(1, 5000), seed=st.integers(0, 2**63 - 1), data=st.data())
def test_random_fold_uses_every_slot_floor_or_ceil_times(n, seed, data):
    m = data.draw(st.integers(1, n))
    uses = load(RandomFold(n, m, seed))
    assert uses.min() >= n // m
    assert uses.max() <= -(-n // m)


@settings(max_examples=30)
@given(n=st.integers(1, 3000), seed=st.integers(0, 2**63 - 1))
def test_random_fold_at_ratio_one_is_a_bijection(n, seed):
    assert sorted(RandomFold(n, n, seed).slots_of(0, n)) == list(range(n))


@settings(max_examples=60)
@given(n=st.integers(1, 3000), seed=st.integers(0, 2**63 - 1), data=st.data())
def test_random_fold_runs_are_its_slots_and_signs(n, seed, data):
    mapping = RandomFold(n, data.draw(st.integers(1, n)), seed)
    start, stop = sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n))))
    slots, signs, expected = [], [], start
    for run in mapping.runs(start, stop):
        assert run.start == expected
        assert run.length > 0
        slots += range(run.slot, run.slot + run.length)
        signs += (run.sign * mapping.pattern[run.entry : run.entry + run.length].astype(int)).tolist()
        expected += run.length
    assert expected == stop
    assert slots == mapping.slots_of(start, stop).tolist()
    assert signs == mapping.signs_of(start, stop).tolist()


def test_random_fold_by_hand():
    mapping = RandomFold(virtual_size=10, slots=4, seed=3)
    offsets = mapping.offsets.tolist()
    assert mapping.partitions == 3
    assert mapping.slots_of(0, 10).tolist() == [(offsets[i // 4] + i % 4) % 4 for i in range(10)]


def test_random_fold_signs_beyond_one_period(monkeypatch):
    monkeypatch.setattr("rps_core.mappings.random_fold.SIGN_PERIOD", 8)
    mapping = RandomFold(virtual_size=50, slots=20, seed=1)
    assert mapping.flips.shape == (3, 3)
    expected = [mapping.flips[i // 20, i % 20 // 8] * mapping.pattern[i % 20 % 8] for i in range(50)]
    assert mapping.signs_of(0, 50).tolist() == expected
    assert [run.length for run in mapping.runs(0, 8)] in ([8], *[[k, 8 - k] for k in range(1, 8)])


@settings(max_examples=60)
@given(n=st.integers(200, 20_000), seed=st.integers(0, 2**63 - 1), ratio=st.sampled_from([1, 2, 10]), data=st.data())
def test_random_fold_touches_at_most_one_line_more_than_contiguous_weights(n, seed, ratio, data):
    """Within a partition that does not wrap; each wrap of psi or new partition starts one more stretch."""
    mapping = RandomFold(n, n // ratio, seed)
    start = data.draw(st.integers(0, n - 1))
    stop = min(n, start + data.draw(st.integers(1, 64)))
    stretches = len(list(mapping.runs(start, stop)))
    contiguous = -(-(stop - start) // 16)
    assert cache_lines(mapping, start, stop) <= contiguous + stretches


@pytest.mark.parametrize("name", ["hashed_net", "robe_z", "roast"])
def test_hashed_chunks_leave_slots_unused_at_ratio_one(name):
    mapping = build(name, [(256, 256)], 65_536, 0)
    assert 0.2 < (load(mapping) == 0).mean() < 0.5


def test_seeding_each_layer_apart_is_not_what_happens():
    """Two equal layers under one seed: at ratio 1 every slot is used; the reference left 28 % unused."""
    mapping = RandomFold.build([Block((64, 64)), Block((64, 64))], 2 * 64 * 64, 0)
    assert (load(mapping) == 1).all()


def test_roast_tiles_are_contiguous():
    mapping = Roast.build([Block((32, 48)), Block((10, 64), table=True)], 1000, 0)
    matrix = mapping.slots_of(0, 32 * 48).reshape(32, 48)
    tile = matrix[16:32, 32:48]
    assert (tile == (tile[0, 0] + np.arange(256).reshape(16, 16)) % 1000).all()
    chunk = mapping.slots_of(32 * 48 + 32, 32 * 48 + 64)
    assert (chunk == (chunk[0] + np.arange(32)) % 1000).all()
    assert np.unique(matrix[::16, ::16]).size == 6


def test_roast_hashes_each_tile_at_an_uneven_edge_apart():
    matrix = Roast.build([Block((40, 20))], 10**9, 0).slots_of(0, 800).reshape(40, 20)
    assert np.unique(matrix).size == 800
    narrow = Roast.build([Block((48, 3))], 10**9, 0).slots_of(0, 144).reshape(48, 3)
    assert np.unique(narrow[::16, 0]).size == 3


def test_cache_lines_by_hand():
    mapping = RandomFold(64, 64, 0)
    offset = int(mapping.offsets[0])
    low = (64 - offset) % 64
    assert cache_lines(mapping, low, min(low + 16, 64)) == 1
    assert cache_lines(mapping, 0, 64) == 4
    hashed = build("hashed_net", [(4096,)], 4096, 0)
    assert cache_lines(hashed, 0, 64) > 4 * cache_lines(RandomFold(4096, 4096, 0), 0, 64)


def test_signs_of_weights_that_meet_are_uncorrelated():
    """Mean of g_i g_j over pairs in a slot, over seeds: 0 within four standard errors."""
    products = []
    for seed in range(300):
        mapping = RandomFold(60, 20, seed)
        slots, signs = mapping.slots_of(0, 60), mapping.signs_of(0, 60).astype(int)
        by_slot = [signs[slots == slot] for slot in range(20)]
        products.append(np.mean([a[0] * a[1] + a[0] * a[2] + a[1] * a[2] for a in by_slot]) / 3)
    assert abs(np.mean(products)) < 4 * np.std(products) / np.sqrt(300)


def test_unknown_names_name_the_nearest():
    with pytest.raises(ValueError, match=r"must be one of \['hashed_net', .*did you mean 'robe_z'"):
        mapping_class("robez")


GOLDEN = {
    "hashed_net": [(35, 1), (11, -1), (96, -1), (81, 1), (42, -1), (67, 1)],
    "random_fold": [(35, 1), (36, -1), (34, -1), (11, -1), (81, -1), (30, -1)],
    "roast": [(35, 1), (36, -1), (92, -1), (93, 1), (91, -1), (74, 1)],
    "robe_z": [(35, 1), (36, -1), (34, -1), (35, 1), (70, -1), (27, 1)],
}


@pytest.mark.parametrize("name", NAMES)
def test_golden_slots_guard_saved_models(name):
    mapping = MAPPINGS[name].build([Block((20, 30)), Block((10, 10), table=True)], 100, 7)
    picked = [0, 1, 99, 100, 350, 699]
    slots, signs = mapping.slots_of(0, 700), mapping.signs_of(0, 700)
    assert [(int(slots[i]), int(signs[i])) for i in picked] == GOLDEN[name]
