"""The recorded exchange feeds beside the repository: where they are, and their steps."""

from __future__ import annotations

from pathlib import Path

from services.cli.feed_files import lines_of
from services.cli.recorded import Step, steps

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "data"
EXCHANGES = ("coinbase", "kraken", "binance")


def recorded(exchange: str) -> list[Step]:
    """All steps of all markets of an exchange, in order."""
    return list(steps(lines_of(sorted(RECORDED.glob(f"{exchange}-*")))))
