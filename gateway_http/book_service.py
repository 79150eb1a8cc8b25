"""Asking BookService once."""

from collections.abc import Awaitable
from typing import Final, TypeVar

import grpc

from services.errors import Reason, Rejected
from services.runtime import rpc

LOOK_UP_SECONDS_MAX: Final = 5.0

R = TypeVar("R")


async def asked(call: Awaitable[R]) -> R:
    """The answer of BookService. Raises Rejected: its refusal, or UNAVAILABLE."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        status = rpc.status_from(error)
        refusal = rpc.refusal_in(status) if status is not None else None
        raise refusal or Rejected(Reason.UNAVAILABLE, "market data is not available now; try again") from None
