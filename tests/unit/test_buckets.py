"""Token buckets: a table of hits on one key, and any hits at all against the definition."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.buckets import NS_PER_SECOND, Buckets, Rate

MS = NS_PER_SECOND // 1_000
TWO_A_SECOND = Rate(per_second=2, burst=3)


@pytest.mark.parametrize(
    ("hits_ms", "last"),
    [
        # (taken, limit, remaining, reset in ms, retry in ms) of the last hit
        ([0], (True, 3, 2, 500, 0)),
        ([0, 0], (True, 3, 1, 1_000, 0)),
        ([0, 0, 0], (True, 3, 0, 1_500, 0)),
        ([0, 0, 0, 0], (False, 3, 0, 1_500, 500)),
        ([0, 0, 0, 0, 499], (False, 3, 0, 1_001, 1)),
        ([0, 0, 0, 0, 500], (True, 3, 0, 1_500, 0)),
        ([0, 0, 0, 1_499], (True, 3, 1, 501, 0)),
        ([0, 0, 0, 1_500], (True, 3, 2, 500, 0)),
        ([0, 0, 0, 90_000], (True, 3, 2, 500, 0)),
    ],
)
def test_the_last_of_some_hits(hits_ms: list[int], last: tuple[bool, int, int, int, int]) -> None:
    buckets = Buckets(TWO_A_SECOND)
    for at_ms in hits_ms:
        verdict = buckets.hit("k", at_ms * MS)
    taken, limit, remaining, reset_ms, retry_ms = last
    assert verdict == (taken, limit, remaining, reset_ms * MS, retry_ms * MS)


def test_keys_do_not_know_of_each_other_and_are_bounded() -> None:
    buckets = Buckets(Rate(1, 1), keys_max=2)
    assert buckets.hit("a", 0).taken and buckets.hit("b", 0).taken
    assert not buckets.hit("a", 0).taken
    assert buckets.hit("c", 0).taken, "b, used least recently, is forgotten"
    assert not buckets.hit("a", 0).taken
    assert buckets.hit("b", 0).taken
    assert len(buckets._full_ns) == 2


HITS = st.lists(st.tuples(st.integers(0, 2 * NS_PER_SECOND), st.integers(1, 3)), max_size=60)
"""Nanoseconds since the last one, and how many come at once."""


@given(HITS, st.sampled_from([1, 2, 5, 1_000]), st.integers(3, 8))
def test_any_hits_are_those_of_a_bucket_that_fills_up(hits: list[tuple[int, int]], per_second: int, burst: int) -> None:
    buckets, tokens, now = Buckets(Rate(per_second, burst)), Fraction(burst), 0
    for gap_ns, count in hits:
        now += gap_ns
        tokens = min(Fraction(burst), tokens + Fraction(gap_ns * per_second, NS_PER_SECOND))
        verdict = buckets.hit("k", now, count)
        assert verdict.taken == (tokens >= count)
        tokens -= count * verdict.taken
        assert verdict.remaining == int(tokens)
        assert verdict.retry_ns == (0 if verdict.taken else -(-(count - tokens) * NS_PER_SECOND // per_second))
