"""Random numbers that are a function of their place."""

import math

import numpy as np
import pytest
from keras import ops

from keras_gen import counter
from keras_gen.engine import to_numpy


def words(*values):
    return tuple(ops.convert_to_tensor(np.array([v], "uint32").view("int32")) for v in values)


@pytest.mark.parametrize(
    ("key", "count", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_against_its_authors_answers(key, count, expected):
    found = counter.threefry(words(*key), words(*count))
    assert tuple(int(to_numpy(word).view("uint32")[0]) for word in found) == expected


def test_counted_noise_is_normal_and_independent_of_batch_and_order():
    drawn = to_numpy(counter.normal((4000, 3, 5), 7, 2))
    flat = drawn.reshape(4000, -1)
    assert abs(flat.mean()) < 4 / math.sqrt(flat.size)
    assert abs((flat**2).mean() - 1) < 4 * math.sqrt(2 / flat.size)
    assert abs((flat**4).mean() - 3) < 4 * math.sqrt(96 / flat.size)
    correlation = np.corrcoef(flat.T) - np.eye(flat.shape[1])
    assert np.abs(correlation).max() < 5 / math.sqrt(4000)
    np.testing.assert_array_equal(to_numpy(counter.normal((3, 3, 5), 7, 2)), drawn[:3])
    assert not np.array_equal(to_numpy(counter.normal((3, 3, 5), 7, 3)), drawn[:3])
    own = to_numpy(counter.normal((3, 3, 5), np.array([5, 9, 5], "int32"), 2))
    np.testing.assert_array_equal(own[0], own[2])
    np.testing.assert_array_equal(to_numpy(counter.normal((1, 3, 5), np.array([9], "int32"), 2))[0], own[1])


def test_counted_noise_is_the_same_everywhere():
    expected = [-2.091734, -1.2467115, -0.7599977, -1.3572944]
    np.testing.assert_allclose(to_numpy(counter.normal((2, 7, 5), 3, 11))[0, 0, :4], expected, atol=1e-6)
