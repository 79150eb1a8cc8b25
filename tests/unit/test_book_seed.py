"""The first markets, from TOML."""

from pathlib import Path

import pytest

from services.book.batch import Batch
from services.book.engine import Engine
from services.book.model import Command, LeaderStarted, Refused
from services.book.seed import seeds
from services.runtime.run import StartError

ROOT = Path(__file__).parents[2]


def test_the_file_that_we_ship() -> None:
    engine = Engine(0)
    batch = Batch(engine, 1)
    bodies = [LeaderStarted(1, "x"), *seeds(ROOT / "markets.toml")]
    events = batch.add_all([Command(0, body) for body in bodies])
    assert not [event for event in events if isinstance(event.body, Refused)]
    assert [(a.symbol, a.decimals) for a in engine.assets.values()] == [("BTC", 18), ("ETH", 18), ("USD", 18)]
    markets = [book.market for book in engine.books.values()]
    assert [(m.symbol, m.tick_size, m.lot_size) for m in markets] == [
        ("BTC-USD", "0.01", "0.00001"),
        ("ETH-USD", "0.01", "0.0001"),
        ("ETH-BTC", "0.000001", "0.0001"),
    ]


ASSETS = '[[assets]]\nsymbol = "A"\n[[assets]]\nsymbol = "B"\ndecimals = 6\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[assets", "markets.toml"),
        ("[[assets]]\ndecimals = 1", "symbol is missing"),
        (ASSETS + '[[markets]]\nsymbol = "A-B"\ntick_size = "1"', "lot_size is missing"),
        (ASSETS + '[[markets]]\nsymbol = "A-C"\ntick_size = "1"\nlot_size = "1"', "C is missing"),
        (
            ASSETS + '[[markets]]\nsymbol = "A-B"\ntick_size = "1"\nlot_size = "1"\nnotional_min = "0.0000001"',
            "more than 6 decimals",
        ),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "markets.toml"
    path.write_text(text)
    with pytest.raises(StartError, match=complaint):
        seeds(path)


def test_a_missing_file_is_too(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot read"):
        seeds(tmp_path / "none.toml")


def test_the_minimum_is_in_base_units_of_the_quote_asset(tmp_path: Path) -> None:
    path = tmp_path / "markets.toml"
    path.write_text(ASSETS + '[[markets]]\nsymbol = "A-B"\ntick_size = "1"\nlot_size = "1"\nnotional_min = "2.5"')
    assert seeds(path)[-1].market.notional_min == 2_500_000  # type: ignore[union-attr]
