"""The derived integers against SHA-256 computed here from the bytes written out."""

import hashlib

import pytest

from mpox.core import seeds


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ((1234,), b"[1234]"),
        ((1234, "picture", 7), b'[1234, "picture", 7]'),
        ((0, "training pictures", "order", 3), b'[0, "training pictures", "order", 3]'),
    ],
)
def test_is_the_first_63_bits_of_sha256(key, text):
    assert seeds.derive(*key) == int(hashlib.sha256(text).hexdigest()[:16], 16) // 2


def test_known_value():
    # sha256sum of '[1234, "picture", 7]' starts with 1e01529433014762
    assert seeds.derive(1234, "picture", 7) == 0x1E01529433014762 >> 1


def test_every_purpose_index_and_seed_has_its_own():
    keys = [(s, p, i) for s in range(5) for p in ("a", "b", "1") for i in range(50)]
    keys += [(1, "1", "2"), (1, "12"), (1, 1, 2), (11, 2), (1,)]
    drawn = [seeds.derive(*key) for key in keys]
    assert len(set(drawn)) == len(keys)
    assert all(0 <= number < 2**63 for number in drawn)
