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
    (last,) = read_numbers(token, 1, *prefix)
    return last


def read_numbers(token: str, count: int, *prefix: int) -> list[int]:
    """The last so many numbers of a token that begins with the same others.

    Raises:
        Rejected: INVALID_FIELD: it was made for another list, or not by us.
    """
    try:
        padded = token + "=" * (-len(token) % 4)
        told = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii").split(".")
        before, last = told[:-count], told[-count:]
        fits = all(number.isdecimal() and int(number) <= INT64_MAX for number in last)
        if before == [str(number) for number in prefix] and len(last) == count and fits:
            return [int(number) for number in last]
    except (binascii.Error, UnicodeError, ValueError):
        pass  # refused below, like any other text that is not ours
    raise Rejected(Reason.INVALID_FIELD, "page_token is not one that this list came with", "page_token")
