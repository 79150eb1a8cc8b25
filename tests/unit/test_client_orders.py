"""What the Python client refuses before it asks anybody."""

from typing import Any

import pytest

from clearbook.client import Client

CASES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"side": "up", "quantity": "1"}, ValueError, "side"),
    ({"side": "BUY", "quantity": "1"}, ValueError, "side"),
    ({"side": "buy", "quantity": 0.1}, TypeError, "quantity"),
    ({"side": "sell", "quantity": "1", "price": 30000.00}, TypeError, "price"),
]


@pytest.mark.parametrize(("order", "error", "word"), CASES)
async def test_a_bad_order_is_named(order: dict[str, Any], error: type[Exception], word: str) -> None:
    async with Client(user="alice") as client:
        with pytest.raises(error, match=word):
            await client.place_order("BTC-USD", **order)
