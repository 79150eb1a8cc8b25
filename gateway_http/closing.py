"""Why a WebSocket is closed, as its close frame can carry it."""

from typing import Final

GOING_AWAY, POLICY, BROKEN, TOO_SLOW, LOGGED_OUT = 1012, 1008, 1011, 1013, 4401
"""Codes; the last is our own."""

REASON_BYTES_MAX: Final = 123
"""A control frame has 125 bytes, and the code takes two."""


def close_reason(text: str) -> str:
    """As much of a text as there is room for, in whole characters."""
    return text.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
