"""Snapshots as older engines kept them."""

import json
from typing import Any

from services.book.engine import Engine


def of_format_1(engine: Engine) -> bytes:
    """What the engine before withdrawals would have kept of the same state."""
    state = json.loads(of_format_2(engine))
    assert state.pop("withdrawals") == [], "format 1 cannot say this"
    assert state.pop("claims_through") == 0, "format 1 cannot say this"
    state["accounts"] = [row for row in state["accounts"] if row[1] != "adjustments"]
    return json.dumps(state | {"format": 1}, sort_keys=True, separators=(",", ":")).encode()


def of_format_8(engine: Engine) -> bytes:
    """What the engine before rules of withdrawals would have kept of the same state."""
    state = json.loads(engine.snapshot())
    for name in ("withdrawal_rules", "withdrawn", "allow_lists"):
        assert state.pop(name) == [], "format 8 cannot say this"
    assert all(row.pop() == 0 for row in state["withdrawals"]), "format 8 cannot say this"
    return json.dumps(state | {"format": 8}, sort_keys=True, separators=(",", ":")).encode()


def of_format_6(engine: Engine) -> bytes:
    """What the engine before debts would have kept of the same state."""
    state = json.loads(of_format_8(engine))
    assert (state.pop("notes_through"), state.pop("debts")) == (0, []), "format 6 cannot say this"
    del state["exited"]
    return json.dumps(state | {"format": 6}, sort_keys=True, separators=(",", ":")).encode()


def of_format_5(engine: Engine) -> bytes:
    """What the engine before exits would have kept of the same state."""
    state = json.loads(of_format_6(engine))
    assert state.pop("exits_through") == 0, "format 5 cannot say this"
    assert not state.pop("leaving"), "nor this"
    return json.dumps(state | {"format": 5}, sort_keys=True, separators=(",", ":")).encode()


def of_format_4(engine: Engine) -> bytes:
    """What the engine before reference prices would have kept of the same state."""
    state = json.loads(of_format_5(engine))
    for book in state["books"]:
        assert book.pop("reference") is None, "format 4 cannot say this"
        *_, rules = book["market"]
        if rules is not None:
            assert rules.pop() == 0, "format 4 cannot say this"
    return json.dumps(state | {"format": 4}, sort_keys=True, separators=(",", ":")).encode()


def of_format_3(engine: Engine) -> bytes:
    """What the engine before there were editions would have kept of the same state."""
    state = json.loads(of_format_4(engine))
    del state["edition"]
    for book in state["books"]:
        assert book.pop("ended") == [], "format 3 cannot say this"
    return json.dumps(state | {"format": 3}, sort_keys=True, separators=(",", ":")).encode()


def of_format_2(engine: Engine) -> bytes:
    """What the engine before orders with terms would have kept of the same state."""
    state = json.loads(of_format_3(engine))
    assert (state.pop("switches"), state.pop("left")) == ([], []), "format 2 cannot say this"
    for book in state["books"]:
        for name in ("waiting", "released", "groups"):
            assert book.pop(name) == [], "format 2 cannot say this"
        assert (book["market"].pop(), book.pop("auction_ticks")) == (None, 0), "format 2 cannot say this"
        del book["last_price_ticks"]
        for side in ("bids", "asks"):
            book[side] = [_row_of_format_2(*row) for row in book[side]]
    return json.dumps(state | {"format": 2}, sort_keys=True, separators=(",", ":")).encode()


def _row_of_format_2(*row: Any) -> list[Any]:
    order_id, account_id, kind, time_in_force, post_only, price_ticks, quantity_lots, budget, *rest = row
    *carried, terms, remaining_lots, hidden_lots, arrival = rest
    assert (budget, terms, hidden_lots) == (0, None, 0), "format 2 cannot say this"
    asked = [order_id, account_id, kind, time_in_force, post_only, price_ticks, quantity_lots]
    return [*asked, quantity_lots - remaining_lots, *carried, arrival]
