"""The last price of every market, not only of those that are quoted in what volumes are counted in."""

from alembic import op

revision = "0008"
down_revision = "0007"

LAST = "SELECT market_id, MAX(settlement_sequence) AS last FROM executions GROUP BY market_id"


def upgrade() -> None:
    """Adds those that are missing, from the history."""
    op.execute(
        "INSERT INTO prices (market_id, price_ticks) SELECT DISTINCT e.market_id, e.price_ticks "  # noqa: S608
        f"FROM executions e JOIN ({LAST}) m ON m.market_id = e.market_id AND m.last = e.settlement_sequence "
        "WHERE e.market_id NOT IN (SELECT market_id FROM prices)"
    )
