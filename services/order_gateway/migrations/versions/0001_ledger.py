"""The gateway's projection of the journal: ledger, orders, executions, and the cursor that they are as of."""

import sqlalchemy as sa
from alembic import op

from services.runtime.tables import Amount

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes all tables."""
    _reference_data()
    _money()
    _orders()


def _number(name: str, *, primary_key: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, autoincrement=False, nullable=False, primary_key=primary_key)


def _text(name: str, *, primary_key: bool = False, unique: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, primary_key=primary_key, unique=unique)


def _amount(name: str) -> sa.Column[int]:
    return sa.Column(name, Amount, nullable=False)


def _reference_data() -> None:
    op.create_table(
        "cursor",  # one row
        _number("id", primary_key=True),
        _number("journal_sequence"),
        _number("time_ns"),
        _text("incarnation"),
    )
    op.create_table("assets", _number("asset_id", primary_key=True), _text("symbol"), _number("decimals"))
    op.create_table(
        "markets",
        _number("market_id", primary_key=True),
        _text("symbol"),
        _number("base_asset_id"),
        _number("quote_asset_id"),
        _text("tick_size"),
        _text("lot_size"),
        _amount("notional_min"),
        _number("halted"),
    )
    op.create_table("accounts", _number("account_id", primary_key=True), _text("name", unique=True))
    op.create_table(
        "tokens", _text("hash", primary_key=True), _text("user_name"), _number("admin"), _number("create_ns")
    )


def _money() -> None:
    op.create_table(
        "balances",
        _number("account_id", primary_key=True),
        _number("asset_id", primary_key=True),
        _amount("total"),
        _amount("held"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "postings",
        _number("journal_sequence", primary_key=True),
        _number("line", primary_key=True),
        _number("account_id"),
        _number("asset_id"),
        _amount("amount"),
        _number("kind"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "transfers",
        _text("transfer_id", primary_key=True),
        _number("from_account_id"),
        _number("to_account_id"),
        _number("asset_id"),
        _amount("amount"),
        _number("settlement_sequence"),
        _number("journal_sequence"),
    )


def _orders() -> None:
    op.create_table(
        "orders",
        _number("order_id", primary_key=True),
        _number("account_id"),
        _number("market_id"),
        _number("buys"),
        _number("is_limit"),
        _number("time_in_force"),
        _number("post_only"),
        _number("price_ticks"),
        _number("quantity_lots"),
        _amount("budget"),
        _text("client_order_id"),
        _number("maker_fee_ppm"),
        _number("taker_fee_ppm"),
        _number("filled_lots"),
        _amount("filled_quote"),
        _number("state"),
        _number("cause"),
        _amount("lock_remaining"),
        _number("create_sequence"),
        _number("create_ns"),
        _number("event_sequence"),
        _number("event_ns"),
    )
    op.create_index("orders_by_account", "orders", ["account_id", "create_sequence"])
    op.create_index("orders_by_client", "orders", ["account_id", "client_order_id"])
    op.create_index("orders_by_event", "orders", ["event_sequence"])
    open_ones = sa.text("state = 1")
    op.create_index(
        "orders_open", "orders", ["account_id", "create_sequence"], sqlite_where=open_ones, postgresql_where=open_ones
    )
    op.create_table(
        "executions",
        _number("order_id", primary_key=True),
        _number("trade_id", primary_key=True),
        _number("account_id"),
        _number("market_id"),
        _text("client_order_id"),
        _number("buys"),
        _number("price_ticks"),
        _number("quantity_lots"),
        _amount("fee"),
        _number("is_maker"),
        _number("settlement_sequence"),
        _number("event_sequence"),
        _number("event_ns"),
        sqlite_with_rowid=False,
    )
