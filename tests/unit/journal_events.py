"""Events of the journal as hypothesis makes them up: plain orders of every content, and some that are not plain."""

from clearbook.internal.v1 import journal_pb2 as journal
from hypothesis import strategies as st

HUGE = 2**256 - 1

positive, rates, amounts = st.integers(1, 2**63 - 1), st.integers(0, 2**32 - 1), st.integers(0, HUGE)
counts = st.just(0) | positive

told_orders = st.builds(
    journal.Order,
    **dict.fromkeys(("order_id", "account_id", "price_ticks", "quantity_lots", "filled_lots"), counts),
    **dict.fromkeys(("market_id", "maker_fee_ppm", "taker_fee_ppm"), rates),
    side=st.integers(1, 2),
    type=st.integers(1, 2),
    time_in_force=st.integers(1, 5),
    post_only=st.booleans(),
    budget=st.just("") | amounts.map(str),
    client_order_id=st.text(max_size=300),
    state=st.integers(1, 4),
    cancel_cause=st.integers(0, 15),
    lock_remaining=st.just("") | amounts.map(str),
)
told_trades = st.builds(
    journal.Trade,
    **dict.fromkeys(("trade_id", "settlement_sequence", "price_ticks", "quantity_lots"), counts),
    **dict.fromkeys(("maker_order_id", "maker_account_id", "maker_remaining_lots"), counts),
    **dict.fromkeys(("base_amount", "quote_amount"), amounts.map(str)),
    **dict.fromkeys(("maker_fee", "taker_fee", "maker_lock_remaining"), st.just("") | amounts.map(str)),
)
placed_events = st.builds(journal.OrderPlaced, order=told_orders, trades=st.lists(told_trades, max_size=3))
canceled_events = st.builds(journal.OrderCanceled, order=told_orders)
heads = {"journal_sequence": positive, "command_id": counts, "market_sequence": counts}
plain_events = st.builds(journal.Event, **heads, order_placed=placed_events) | st.builds(
    journal.Event, **heads, order_canceled=canceled_events
)
SPECIAL_ORDER = journal.Order(
    order_id=1,
    time_in_force=journal.TIME_IN_FORCE_GTC,
    state=journal.ORDER_STATE_OPEN,
    terms=journal.OrderTerms(minimum_lots=1),
)
OTHERS = [
    journal.Event(journal_sequence=1, refused=journal.Refused(reason="NO")),
    journal.Event(journal_sequence=2, account_opened=journal.AccountOpened(account_id=1001, name="é")),
    journal.Event(journal_sequence=3, order_placed=journal.OrderPlaced(order=SPECIAL_ORDER)),
]
