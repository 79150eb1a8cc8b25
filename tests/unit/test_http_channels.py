"""Enough connections for all that the shim's sockets may have open at once."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any
from unittest.mock import Mock

import pytest

from gateway_http.channels import STREAMS_SOCKET_MAX, Channels
from gateway_http.limits import SOCKETS_MAX
from services.errors import Reason, Rejected
from services.runtime import rpc


def test_no_connection_carries_more_than_it_can_when_every_socket_has_all_it_may() -> None:
    made: list[Any] = []

    def make() -> Any:
        made.append(object())
        return made[-1]

    channels = Channels(make)
    with ExitStack() as calls:
        taken = Counter(calls.enter_context(channels.one()) for _ in range(SOCKETS_MAX * STREAMS_SOCKET_MAX))
        assert set(taken) == set(made)
        assert max(taken.values()) <= rpc.CONCURRENT_STREAMS_MAX
    with channels.one() as first:
        assert first is made[0], "what has ended is not counted"


def test_one_more_than_all_can_carry_is_refused() -> None:
    channels = Channels(Mock, count=2)
    with ExitStack() as calls:
        for _ in range(2 * rpc.CONCURRENT_STREAMS_MAX):
            calls.enter_context(channels.one())
        with pytest.raises(Rejected) as caught:
            calls.enter_context(channels.one())
        assert caught.value.reason is Reason.OVERLOADED
