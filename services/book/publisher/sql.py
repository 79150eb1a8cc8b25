"""The store's SQL, in the dialect that SQLite and PostgreSQL share. Pure text."""

CURSOR = "SELECT incarnation, journal_sequence, time_ns FROM journal_cursor WHERE single = 1"
ASSETS = "SELECT asset_id, symbol, decimals FROM assets"
MARKETS = (
    "SELECT market_id, symbol, base_asset_id, quote_asset_id, tick_size, lot_size, notional_min, state, rules,"
    " sequence, checksum, time_ns, last_trade_id FROM markets ORDER BY market_id"
)
REFERENCES = "SELECT market_id, price_ticks, source, observed_ns FROM reference_prices"
LEVELS = "SELECT buys, price_ticks, lots FROM levels WHERE market_id = $1"
CHANGES = "SELECT data FROM changes WHERE market_id = $1 ORDER BY sequence"
TRADES_BEFORE = (
    "SELECT trade_id, sequence, price_ticks, quantity_lots, taker_buys, settlement_sequence, time_ns"
    " FROM trades WHERE market_id = $1 AND trade_id < $2 ORDER BY trade_id DESC LIMIT $3"
)
TRADES_AFTER = (  # a page, and what is missing of its last command
    "SELECT trade_id, sequence, price_ticks, quantity_lots, taker_buys, settlement_sequence, time_ns"
    " FROM trades WHERE market_id = $1 AND trade_id > $2 AND sequence <= (SELECT MAX(sequence) FROM"
    " (SELECT sequence FROM trades WHERE market_id = $1 AND trade_id > $2 ORDER BY trade_id LIMIT $3) AS page)"
    " ORDER BY trade_id"
)
TRADES_FROM = (
    "SELECT trade_id, sequence, price_ticks, quantity_lots, taker_buys, settlement_sequence, time_ns"
    " FROM trades WHERE market_id = $1 AND trade_id > $2 ORDER BY trade_id LIMIT $3"
)
CANDLES = (
    "SELECT start, open_ticks, high_ticks, low_ticks, close_ticks, lots, tick_lots, trades, taker_lots,"
    " taker_tick_lots, first_trade_id FROM candles"
    " WHERE market_id = $1 AND length = $2 AND start >= $3 AND start < $4 ORDER BY start"
)
LAST_CANDLE = (
    "SELECT start, open_ticks, high_ticks, low_ticks, close_ticks, lots, tick_lots, trades, taker_lots,"
    " taker_tick_lots, first_trade_id FROM candles"
    " WHERE market_id = $1 AND length = $2 AND start < $3 ORDER BY start DESC LIMIT 1"
)
FIRST_CANDLE = (
    "SELECT start, open_ticks, high_ticks, low_ticks, close_ticks, lots, tick_lots, trades, taker_lots,"
    " taker_tick_lots, first_trade_id FROM candles"
    " WHERE market_id = $1 AND length = $2 AND start >= $3 ORDER BY start LIMIT 1"
)
ORDERS = "SELECT whole, data FROM orders WHERE market_id = $1 ORDER BY journal_sequence"

MOVE_CURSOR = (
    "UPDATE journal_cursor SET incarnation = $1, journal_sequence = $2, time_ns = $3"
    " WHERE single = 1 AND journal_sequence = $4"
)
INSERT_ASSET = "INSERT INTO assets (asset_id, symbol, decimals) VALUES ($1, $2, $3)"
UPSERT_MARKET = (
    "INSERT INTO markets (market_id, symbol, base_asset_id, quote_asset_id, tick_size, lot_size, notional_min, state,"
    " rules, sequence, checksum, time_ns, last_trade_id)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
    " ON CONFLICT (market_id) DO UPDATE SET state = excluded.state, rules = excluded.rules,"
    " sequence = excluded.sequence, checksum = excluded.checksum, time_ns = excluded.time_ns,"
    " last_trade_id = excluded.last_trade_id"
)
UPSERT_REFERENCE = (
    "INSERT INTO reference_prices (market_id, price_ticks, source, observed_ns) VALUES ($1, $2, $3, $4)"
    " ON CONFLICT (market_id) DO UPDATE SET price_ticks = excluded.price_ticks, source = excluded.source,"
    " observed_ns = excluded.observed_ns"
)
UPSERT_LEVEL = (
    "INSERT INTO levels (market_id, buys, price_ticks, lots) VALUES ($1, $2, $3, $4)"
    " ON CONFLICT (market_id, buys, price_ticks) DO UPDATE SET lots = excluded.lots"
)
DELETE_LEVEL = "DELETE FROM levels WHERE market_id = $1 AND buys = $2 AND price_ticks = $3"
INSERT_CHANGE = "INSERT INTO changes (market_id, sequence, data) VALUES ($1, $2, $3)"
PRUNE_CHANGES = "DELETE FROM changes WHERE market_id = $1 AND sequence <= $2"
INSERT_TRADE = (
    "INSERT INTO trades (market_id, trade_id, sequence, price_ticks, quantity_lots, taker_buys, settlement_sequence,"
    " time_ns) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
)
UPSERT_CANDLE = (
    "INSERT INTO candles (market_id, length, start, open_ticks, high_ticks, low_ticks, close_ticks, lots, tick_lots,"
    " trades, taker_lots, taker_tick_lots, first_trade_id)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
    " ON CONFLICT (market_id, length, start) DO UPDATE SET high_ticks = excluded.high_ticks,"
    " low_ticks = excluded.low_ticks, close_ticks = excluded.close_ticks, lots = excluded.lots,"
    " tick_lots = excluded.tick_lots, trades = excluded.trades, taker_lots = excluded.taker_lots,"
    " taker_tick_lots = excluded.taker_tick_lots"
)
INSERT_ORDERS = "INSERT INTO orders (market_id, journal_sequence, whole, data) VALUES ($1, $2, $3, $4)"
DELETE_ORDERS = "DELETE FROM orders WHERE market_id = $1 AND journal_sequence < $2"
WIPE = (
    *("DELETE FROM assets", "DELETE FROM markets", "DELETE FROM levels", "DELETE FROM changes", "DELETE FROM trades"),
    *("DELETE FROM candles", "DELETE FROM orders", "DELETE FROM reference_prices"),
    "UPDATE journal_cursor SET incarnation = '', journal_sequence = 0, time_ns = 0 WHERE single = 1",
)
