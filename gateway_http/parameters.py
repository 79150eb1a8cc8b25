"""Parameters of a query or a form, as text: each name as often as it was sent."""

from typing import Final
from urllib.parse import parse_qsl

from services.errors import Reason, Rejected

PARAMETERS_MAX: Final = 100


def texts_in(text: bytes, what: str) -> list[tuple[str, str]]:
    """Names and values, in their order; `what` as in "the body is not a form".

    Raises Rejected(MALFORMED_REQUEST): it is not what it should be, or there are too many.
    """
    try:
        return parse_qsl(text.decode("ascii"), True, errors="strict", max_num_fields=PARAMETERS_MAX)
    except ValueError:
        raise Rejected(Reason.MALFORMED_REQUEST, what) from None
