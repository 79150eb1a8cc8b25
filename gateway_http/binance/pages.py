"""Binance's lists out of ours, which come newest first and in pages: the newest, or the first from a point on."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from gateway_http.binance.refusals import Refused

T = TypeVar("T")

ITEMS_READ_MAX: Final = 20_000
PAGE_ITEMS: Final = 500
TOO_WIDE: Final = -1127

Page = Callable[[str], Awaitable[tuple[Sequence[T], str]]]
"""A page's token → its items, newest first, and the next page's token."""


async def oldest_first(page: Page[T], limit: int, number: Callable[[T], int], first: int | None) -> list[T]:
    """Items, oldest first.

    Args:
        page: reads a page.
        limit: at most so many.
        number: of an item; items get smaller from page to page.
        first: the first ones with this number or a larger one; None: the newest ones.

    Raises:
        Refused: it would take too long to find where they begin.
    """
    found: list[T] = []
    token = ""
    while True:
        items, token = await page(token)
        found += items if first is None else [item for item in items if number(item) >= first]
        passed = first is not None and bool(items) and number(items[-1]) < first
        if not token or passed or (first is None and len(found) >= limit):
            break
        if len(found) >= ITEMS_READ_MAX:
            raise Refused(TOO_WIDE, f"More than {ITEMS_READ_MAX} from there on; ask for a shorter time.")
    if first is None:
        return found[:limit][::-1]
    return found[::-1][:limit]
