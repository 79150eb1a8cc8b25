"""What schemathesis (tests/e2e/test_schemathesis.py) is told of us: who it is, and from where it comes.

It is one and the same user: each one that it would invent gets an account, and funds. And it has an address of its own,
where its wrong credentials are nobody else's.
"""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from urllib3.util import connection

USER = os.environ["SCHEMATHESIS_USER"]
USER_CHARS_MAX = 64
ADDRESS = "127.0.0.2"

_connect = connection.create_connection


def _connect_from_there(address: tuple[str, int], *arguments: Any, **options: Any) -> Any:
    return _connect(address, *arguments, **options | {"source_address": (ADDRESS, 0)})


connection.create_connection = _connect_from_there


@schemathesis.hook
def map_body(_context: Any, body: Any) -> Any:
    """The user of a body, if it is one that there could be."""
    if not isinstance(body, dict):
        return body
    user = body.get("user_id")
    if isinstance(user, str) and 0 < len(user) <= USER_CHARS_MAX:
        return body | {"user_id": USER}
    return body
