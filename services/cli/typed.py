"""What the exchange says, in the words of whoever typed a command: options and arguments, not fields of a proto."""

import re
from collections.abc import Mapping
from typing import Final

TYPED: Final = {
    "transfer_id": "--id",
    "tick_size": "--tick-size",
    "lot_size": "--lot-size",
    "notional_min": "--notional-min",
    "allowed_ips": "--allow-ip",
    "public_key": "--public-key",
    "scopes": "--scope",
    "withdrawal_id": "WITHDRAWAL_ID",
    "key_id": "KEY_ID",
}
"""By the name in the proto; a command may know better of some."""

_WORD: Final = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
_ENUM: Final = re.compile(r"(?:KEY_KIND|SCOPE|TRANSFER_STATE)_([A-Z0-9_]+)", re.ASCII)


def as_typed(message: str, names: Mapping[str, str] | None = None) -> str:
    """A message with each name as it was typed. `names`: of this command, by the name in the proto."""
    known = TYPED | dict(names or {})

    def typed(word: re.Match[str]) -> str:
        value = _ENUM.fullmatch(word[0])
        return value[1].lower() if value else known.get(word[0], word[0])

    return _WORD.sub(typed, message)
