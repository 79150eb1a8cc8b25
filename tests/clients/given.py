"""What a client script is told by the test that runs it, in its environment."""

import os
from typing import Any

URL = os.environ["CLEARBOOK_URL"]
STREAMS = URL.replace("http", "ws", 1)
PAIR = os.environ["CLEARBOOK_PAIR"].replace("-", "/")
SYMBOL = PAIR.replace("/", "")
NOWHERE = f"{URL}/api/v3/nowhere"
"""In place of Binance's own addresses: what a client asks there it must not be able to ask, its key goes with it."""


def credentials(user: str) -> tuple[str, str]:
    """A user's key and its secret."""
    key, _, secret = os.environ[f"CLEARBOOK_{user.upper()}"].partition(":")
    return key, secret


def nowhere(urls: dict[str, Any]) -> dict[str, Any]:
    """ccxt's addresses, none of which is Binance's any more."""
    return {name: nowhere(url) if isinstance(url, dict) else NOWHERE for name, url in urls.items()}
