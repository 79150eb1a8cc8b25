"""Numbers of JSON as plain decimal strings, digit by digit: nothing passes through float."""

import re
from typing import Final

import msgspec

from services.errors import Reason, Rejected

NUMBER_BYTES_MAX: Final = 64
EXPONENT_MAX: Final = 40
NULL: Final = b"null"

_NUMBER: Final = re.compile(rb"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,4}))?")

_strings = msgspec.json.Decoder(str)


def decimal(raw: bytes, field: str) -> str:
    """A JSON number as an exact plain decimal string; a JSON string is taken as it is.

    Exponents are written out (Python's json prints 0.00001 as 1e-05), at most 10^±40. Raises Rejected(INVALID_FIELD).
    """
    if raw == NULL:
        raise Rejected(Reason.INVALID_FIELD, f"{field} is missing", field)
    if raw.startswith(b'"') and len(raw) <= NUMBER_BYTES_MAX:
        try:
            return _strings.decode(raw)
        except UnicodeDecodeError:  # what stays Raw was not looked into
            raise Rejected(Reason.INVALID_FIELD, f"{field} is not UTF-8", field) from None
    match = _NUMBER.fullmatch(raw) if len(raw) <= NUMBER_BYTES_MAX else None
    exponent = int(match[4] or 0) if match else 0
    if match is None or abs(exponent) > EXPONENT_MAX:
        raise Rejected(Reason.INVALID_FIELD, f"{field} is not a number that can be an amount", field)
    sign, whole, fraction = match[1].decode(), match[2].decode(), (match[3] or b"").decode()
    return sign + _shifted(whole, fraction, exponent)


def _shifted(whole: str, fraction: str, exponent: int) -> str:
    """The decimal point moved to the right by `exponent` places."""
    if exponent >= 0:
        fraction = fraction.ljust(exponent, "0")
        whole, fraction = whole + fraction[:exponent], fraction[exponent:]
    else:
        whole = whole.rjust(1 - exponent, "0")
        whole, fraction = whole[:exponent], whole[exponent:] + fraction
    return f"{whole}.{fraction}" if fraction else whole
