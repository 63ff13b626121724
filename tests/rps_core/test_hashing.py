import numpy as np
import pytest

from rps_core.hashing import group_seed, hash64, hash_below, hash_sign


def reference(seed: int, stream: int, position: int) -> int:
    """The definition, in Python integers."""
    mask = (1 << 64) - 1

    def mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    start = mix((seed * 0x9E3779B97F4A7C15 + (stream + 1) * 0xD1B54A32D192ED03) & mask)
    return mix((mix((position * 0x9E3779B97F4A7C15 + start) & mask) + start) & mask)


def test_golden_values_guard_saved_models():
    assert hash64(0, 0, np.arange(3)).tolist() == [15102628216926364052, 12216275664248970543, 7655187301202347553]
    assert hash64(2**63 - 1, 5, np.array([2**63 - 1])).tolist() == [4699111270852188582]
    assert hash_below(1000, 7, 1, np.arange(6)).tolist() == [527, 985, 683, 108, 133, 465]
    assert hash_sign(7, 1, np.arange(8)).tolist() == [1, -1, 1, -1, 1, 1, -1, -1]


@pytest.mark.parametrize("seed", [0, 1, 2**62 + 12345, 2**63 - 1])
@pytest.mark.parametrize("position", [0, 1, 67_000, 2**31, 2**32, 2**53 + 1, 2**63 - 1])
def test_equals_the_definition_over_the_whole_range(seed, position):
    assert int(hash64(seed, 3, np.array([position]))[0]) == reference(seed, 3, position)


def test_streams_and_seeds_are_independent():
    signs = {(s, t): hash_sign(s, t, np.arange(20_000)).astype(np.int64) for s in (0, 1) for t in (0, 1)}
    for a in signs:
        for b in signs:
            correlation = (signs[a] * signs[b]).mean()
            assert correlation == 1 if a == b else abs(correlation) < 4 / np.sqrt(20_000)


def test_below_is_uniform_and_in_range():
    draws = hash_below(10, 3, 0, np.arange(100_000))
    counts = np.bincount(draws, minlength=10)
    assert counts.size == 10
    assert abs(counts - 10_000).max() < 5 * np.sqrt(9_000)
    assert hash_below(1, 3, 0, np.arange(5)).tolist() == [0] * 5


def test_groups_of_a_model_have_seeds_of_their_own():
    seeds = [group_seed(5, number) for number in range(4)]
    assert seeds[0] == 5
    assert len(set(seeds)) == 4
    assert group_seed(2**63 - 1, 3) == (2**63 - 1 + 3 * 0x9E3779B97F4A7C15) % 2**63
