"""The first assets and markets, from a TOML file."""

import tomllib
from pathlib import Path
from typing import Any

from services.book.model import Asset, CommandBody, CreateAsset, CreateMarket, Market
from services.errors import Rejected
from services.runtime.run import StartError
from services.units import Asset as AssetUnits

DECIMALS = 18
"""Of an asset that does not say."""


def seeds(path: Path) -> list[CommandBody]:
    """The commands that make an empty journal's assets and markets, in the order in which the engine numbers them.

    Raises:
        StartError: the file is missing or wrong.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        assets = [
            Asset(number, entry["symbol"], entry.get("decimals", DECIMALS))
            for number, entry in enumerate(content.get("assets", []), 1)
        ]
        by_symbol = {asset.symbol: asset for asset in assets}
        markets = [_market(entry, by_symbol) for entry in content.get("markets", [])]
    except OSError as error:
        raise StartError(f"the first markets: cannot read {path}: {error.strerror}") from None
    except KeyError as error:
        raise StartError(f"the first markets: {path}: {error.args[0]} is missing") from None
    except (ValueError, TypeError, Rejected) as error:
        raise StartError(f"the first markets: {path}: {error}") from None
    return [*(CreateAsset(asset) for asset in assets), *(CreateMarket(market) for market in markets)]


def _market(entry: dict[str, Any], assets: dict[str, Asset]) -> Market:
    symbol = entry["symbol"]
    base_symbol, _, quote_symbol = symbol.partition("-")
    base, quote = assets[base_symbol], assets[quote_symbol]
    units = AssetUnits(quote.asset_id, quote.symbol, quote.decimals)
    notional_min = units.parse(entry.get("notional_min", "0"), "notional_min")
    return Market(0, symbol, base.asset_id, quote.asset_id, entry["tick_size"], entry["lot_size"], notional_min)
