"""freqtrade, unchanged, trades on Clearbook as if it were Binance: dry, then in earnest; prints the trades, as JSON."""

import json
import re
import signal
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import ccxt.pro
from freqtrade.main import main

from tests.clients.given import PAIR, STREAMS, URL, credentials, nowhere

HERE = Path(__file__).parent
STOPPED = 128 + signal.SIGINT
"""How its command line ends after a SIGTERM or a SIGINT."""


def config(*, dry: bool) -> dict[str, Any]:
    """The one of docs/binance.md, with our market, our keys and our addresses."""
    page = (HERE.parents[1] / "docs/binance.md").read_text()
    (block,) = re.findall(r"```json\n(\{.*?)```", page, re.DOTALL)
    key, secret = credentials("bot")
    made: dict[str, Any] = json.loads(block.replace("BTC/USD", PAIR))
    api = nowhere(ccxt.pro.binance().urls["api"])
    api |= {"public": f"{URL}/api/v3", "private": f"{URL}/api/v3"}
    api["ws"] |= {"spot": f"{STREAMS}/ws"}
    api["ws"]["ws-api"] |= {"spot": f"{STREAMS}/ws-api/v3"}
    made["dry_run"] = dry
    made["exchange"] |= {"key": key, "secret": secret}
    made["exchange"]["ccxt_config"] |= {"urls": {"api": api}, "enableRateLimit": False}
    # A market that is new has no candle yet that is complete: the one that is not will do.
    made["exchange"]["_ft_has_params"] = {"ohlcv_partial_candle": False}
    return made | {"internals": {"process_throttle_secs": 1}}


def rows(database: Path) -> list[dict[str, Any]]:
    """What the bot wrote down of its trades, each with its orders."""
    with sqlite3.connect(database) as connection:
        connection.row_factory = sqlite3.Row
        trades = [dict(row) for row in connection.execute("SELECT * FROM trades ORDER BY id")]
        asked = "SELECT * FROM orders WHERE ft_trade_id = ? ORDER BY id"
        for trade in trades:
            trade["orders"] = [dict(row) for row in connection.execute(asked, (trade["id"],))]
    return trades


def run(*, dry: bool) -> list[dict[str, Any]]:
    """Runs the bot as its command line does, until its strategy ends it."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "config.json").write_text(json.dumps(config(dry=dry)))
        argv = ["trade", "--config", f"{home}/config.json", "--userdir", f"{home}"]
        argv += ["--strategy", "RoundTrips", "--strategy-path", f"{HERE}/strategies"]
        try:
            main([*argv, "--db-url", f"sqlite:///{home}/trades.sqlite"])
        except SystemExit as ended:
            if ended.code != STOPPED:
                raise
        return rows(home / "trades.sqlite")


if __name__ == "__main__":
    print(json.dumps({"dry": run(dry=True), "live": run(dry=False)}))
