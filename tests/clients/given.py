"""What a client script is told by the test that runs it, in its environment."""

import os

URL = os.environ["CLEARBOOK_URL"]
STREAMS = URL.replace("http", "ws", 1)
PAIR = os.environ["CLEARBOOK_PAIR"].replace("-", "/")
SYMBOL = PAIR.replace("/", "")


def credentials(user: str) -> tuple[str, str]:
    """A user's key and its secret."""
    key, _, secret = os.environ[f"CLEARBOOK_{user.upper()}"].partition(":")
    return key, secret
