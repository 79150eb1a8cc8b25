"""Snapshots as older engines kept them."""

import json

from services.book.engine import Engine


def of_format_1(engine: Engine) -> bytes:
    """What the engine before withdrawals would have kept of the same state."""
    state = json.loads(engine.snapshot())
    assert state.pop("withdrawals") == [], "format 1 cannot say this"
    assert state.pop("claims_through") == 0, "format 1 cannot say this"
    state["accounts"] = [row for row in state["accounts"] if row[1] != "adjustments"]
    return json.dumps(state | {"format": 1}, sort_keys=True, separators=(",", ":")).encode()
