"""Where a list goes on: a few whole numbers as text that means nothing to anybody else. Pure."""

import base64
import binascii

from services.errors import Reason, Rejected
from services.units import INT64_MAX


def page_token(*numbers: int) -> str:
    """A token that holds these."""
    text = ".".join(map(str, numbers))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_token(token: str, *prefix: int) -> int:
    """The last number of a token that begins with the same others.

    Raises:
        Rejected: INVALID_FIELD: it was made for another list, or not by us.
    """
    try:
        padded = token + "=" * (-len(token) % 4)
        *before, last = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii").split(".")
        if before == [str(number) for number in prefix] and last.isdecimal() and int(last) <= INT64_MAX:
            return int(last)
    except (binascii.Error, UnicodeError, ValueError):
        pass  # refused below, like any other text that is not ours
    raise Rejected(Reason.INVALID_FIELD, "page_token is not one that this list came with", "page_token")
