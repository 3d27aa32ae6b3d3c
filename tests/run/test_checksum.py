"""A checksum is the same on host and device and for every sharding, and misses no more than its docstring says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from research.core import mesh
from research.run import checksum

DTYPES = [*("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "float32"),
          jnp.bfloat16, jnp.float8_e4m3fn, "int64", "float64"]  # fmt: skip


def bits(dtype, shape=(5, 7)):
    """Random bits as an array: every value of the dtype, NaNs among them."""
    dtype = np.dtype(dtype)
    raw = np.random.default_rng(0).integers(256, size=(*shape, dtype.itemsize), dtype=np.uint8)
    return (raw[..., 0] < 128) if dtype.kind == "b" else raw.view(dtype)[..., 0]


def murmur(x):
    """MurmurHash3's finalizer, in Python's integers."""
    x ^= x >> 16
    x = x * 0x85EBCA6B % 2**32
    x ^= x >> 13
    x = x * 0xC2B2AE35 % 2**32
    return x ^ x >> 16


def test_by_hand():
    """0 at place 0 is mixed to 0. The published value of MurmurHash3's finalizer of 1 is 0x514e28b7."""
    assert murmur(1) == 0x514E28B7
    assert checksum.of_host(np.array([1], np.uint32))[0] == 0x514E28B7
    places = [murmur(word ^ place * 0x9E3779B1 % 2**32) for place, word in enumerate([1, 2, 3])]
    assert checksum.of_host(np.array([1, 2, 3], np.uint32))[0] == sum(places) % 2**32
    assert checksum.of_host(np.zeros((0, 3), np.float32)) == [0, 0]


def test_version_1_by_hand():
    """Words times odd numbers of their places: 1 x 1 + 2 x 3 + 3 x 5."""
    assert checksum.of_host(np.array([1, 2, 3], np.uint32), 1) == 22
    assert checksum.of_host(np.array([0, 2**32 - 1], np.uint32), 1) == 2**32 - 3
    assert checksum.same(np.array([1, 2, 3], np.uint32), 22)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 7), (), (1, 3, 2)])
def test_host_and_device_agree(dtype, shape, version, monkeypatch):
    monkeypatch.setattr(checksum, "BLOCK", 4)  # so that several blocks are summed
    x = bits(dtype, shape)
    with jax.enable_x64(True):
        on_device = jnp.asarray(x)
        assert on_device.dtype == x.dtype
        saved = np.asarray(checksum.of_device(on_device, version)).tolist()
    assert checksum.of_host(x, version) == saved and checksum.same(x, saved)


def test_keys_are_summed_as_their_words():
    keys = jax.random.split(jax.random.key(3), 4)
    assert checksum.of_host(np.asarray(jax.random.key_data(keys))) == checksum.of_device(keys).tolist()


def test_other_strides_are_the_same_numbers():
    x = bits("float32")
    assert checksum.of_host(x.T) == checksum.of_host(np.ascontiguousarray(x.T)) != checksum.of_host(x)


@pytest.mark.parametrize("spec", [PartitionSpec("data"), PartitionSpec(None, "data"), PartitionSpec()])
def test_no_sharding_changes_it(spec):
    x = bits("float32", (16, 8))
    axes = mesh.make_mesh({"data": 8})
    split = jax.device_put(x, NamedSharding(axes, spec))
    assert jax.jit(checksum.of_device)(split).tolist() == checksum.of_host(x)


# What it misses


@pytest.mark.parametrize("dtype", ["uint8", "bfloat16", "float32", "float64"])
def test_no_change_within_a_word_is_missed_by_either_sum(dtype):
    """Every single bit, and every pair of bits of one word: each word's mixing is a bijection."""
    x = bits(jnp.dtype(dtype), (3,))
    whole, raw = checksum.of_host(x), x.view(np.uint8)
    width = min(x.dtype.itemsize, 4) * 8
    for word in range(len(raw) * 8 // width):
        for first in range(width):
            for second in range(first, width):
                flipped = raw.copy()
                for bit in {first, second}:
                    flipped[(word * width + bit) // 8] ^= np.uint8(1 << bit % 8)
                assert all(a != b for a, b in zip(checksum.of_host(flipped.view(x.dtype)), whole, strict=True))


def test_what_version_1_was_blind_to():
    x = bits("float32", (6,))
    two_signs = x * np.array([1, -1, 1, -1, 1, 1], np.float32)
    for changed in (-x, two_signs):
        assert checksum.of_host(changed, 1) == checksum.of_host(x, 1)
        assert all(a != b for a, b in zip(checksum.of_host(changed), checksum.of_host(x), strict=True))


def deltas(change, trials, size=64):
    """u32[trials, 2]: by how much the two sums of random f32[size] differ after `change(rng, words u32[trials, size])`."""
    rng = np.random.default_rng(1)
    words = rng.normal(size=(trials, size)).astype(np.float32).view(np.uint32)
    changed = change(rng, words.copy())
    place = np.arange(size, dtype=np.uint32)
    assert (words != changed).any(1).all()
    return np.stack(
        [
            (checksum._mix(changed, place, *m) - checksum._mix(words, place, *m)).sum(1, dtype=np.uint32)
            for m in checksum.MIXERS
        ],
        axis=1,
    )


def flips(count):
    def change(rng, words):
        rows = np.arange(len(words))
        for place in np.argsort(rng.random(words.shape), axis=1)[:, :count].T:
            words[rows, place] ^= np.uint32(1) << rng.integers(32, size=len(words)).astype(np.uint32)
        return words

    return change


def signs(rng, words):
    rows, (a, b) = np.arange(len(words)), np.argsort(rng.random(words.shape), axis=1)[:, :2].T
    words[rows, a] ^= np.uint32(1 << 31)
    words[rows, b] ^= np.uint32(1 << 31)
    return words


def swap(rng, words):
    rows, (a, b) = np.arange(len(words)), np.argsort(rng.random(words.shape), axis=1)[:, :2].T
    words[rows, a], words[rows, b] = words[rows, b], words[rows, a]
    return words


CHANGES = {
    "two flips": flips(2),
    "many flips": flips(20),
    "two signs": signs,
    "negation": lambda rng, words: words ^ np.uint32(1 << 31),
    "two elements swapped": swap,
    "moved by one": lambda rng, words: np.roll(words, 1, axis=1),
    "two leaves swapped": lambda rng, words: np.roll(words, 1, axis=0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_miss_rate_is_that_of_64_random_bits(name):
    """2^-64 cannot be counted. 6 bits of each sum are as if drawn at random and independently: any two such groups are all
    unchanged in 2^-12 of the trials, by at most five standard deviations more or less. No whole sum is unchanged.
    """
    trials = 1 << 17
    found = deltas(CHANGES[name], trials)
    assert (found != 0).all()
    expected, spread = trials / 2**12, 5 * (trials / 2**12) ** 0.5
    for first in (0, 13, 26):
        for second in (0, 13, 26):
            both = (found[:, 0] >> np.uint32(first) & 63 == 0) & (found[:, 1] >> np.uint32(second) & 63 == 0)
            assert abs(both.sum() - expected) < spread, (first, second)
