"""A pytest within a test: what scripts/test demands of its whole run is not demanded of a part of it.

Else every nested run would fail for a server that it did not speak to, and every planted fault would count as found.
"""

import os

DEMANDS = ("CLEARBOOK_ENGINE", "CLEARBOOK_NO_SKIPS", "CLEARBOOK_SERVERS_REQUIRED", "PYTEST_ADDOPTS")


def environment(**more: str) -> dict[str, str]:
    """Ours without the demands."""
    return {name: value for name, value in os.environ.items() if name not in DEMANDS} | more
