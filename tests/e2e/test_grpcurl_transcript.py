"""What our documents show is what happens: each command and program of them, on both sets of backends."""

from __future__ import annotations

import pytest

from services.errors import Reason
from tests.suite import Suite
from tests.transcript import ROOT, Program, Runner, Step, blocks, json_values, same

DOCUMENTS = ["README.md", "docs/api.md", "docs/market-data.md"]


@pytest.mark.parametrize("document", DOCUMENTS)
async def test_documents(suite: Suite, document: str) -> None:
    runner = Runner(suite)
    for step in blocks((ROOT / document).read_text()):
        await runner.run(step)


def test_the_readme_shows_what_was_promised() -> None:
    shown = list(blocks((ROOT / "README.md").read_text()))
    commands = [" ".join(step.argv) for step in shown if isinstance(step, Step)]
    for part in (" list", " describe ", "/PlaceOrder", "/StreamOrderBook", "/GetSettlement", "/api/v1/order"):
        assert any(part in command for command in commands), part
    assert any(isinstance(step, Program) for step in shown)


def test_the_guide_names_every_error() -> None:
    table = (ROOT / "docs/api.md").read_text().partition("|---|---|---|---|\n")[2].splitlines()
    assert table == [f"| {kind.name} | {kind.grpc_code} | {kind.http_status} | {kind.text} |" for kind in Reason]


WRITTEN = {"order": {"order_id": "1", "price": "30000.00", "fills": [{"trade_id": "7"}]}}
FOUND = [
    ({"order": {"orderId": "2", "price": "30000.00", "fills": [{"tradeId": "9"}]}}, True),
    ({"order": {"orderId": "2", "price": "30000.01", "fills": [{"tradeId": "9"}]}}, False),
    ({"order": {"orderId": 2, "price": "30000.00", "fills": [{"tradeId": "9"}]}}, False),
    ({"order": {"orderId": "2", "price": "30000.00", "fills": []}}, False),
    ({"order": {"orderId": "2", "price": "30000.00", "fills": [{"tradeId": "9"}], "more": "x"}}, False),
    ({"order": {"price": "30000.00", "fills": [{"tradeId": "9"}]}}, False),
]


@pytest.mark.parametrize(("found", "fine"), FOUND)
def test_the_comparison_bites(found: object, fine: bool) -> None:
    assert same(WRITTEN, found) is fine


def test_sessions_are_read_as_a_shell_would() -> None:
    text = "```console\n$ curl -d '{\n  1}' \\\n  http://x\nout\n\n$ grpcurl y\n{}\n^C\n```\n```\n$ not this\n```\n"
    assert list(blocks(text)) == [
        Step(["curl", "-d", "{\n  1}", "http://x"], "out\n\n"),
        Step(["grpcurl", "y"], "{}\n", interrupted=True),
    ]
    assert json_values('{"a": 1}\n{"b": 2}\n{"c') == [{"a": 1}, {"b": 2}]
