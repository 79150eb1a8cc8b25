"""What our documents show is what happens: each command and program of them, on both sets of backends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.suite import Suite
from tests.transcript import ROOT, Runner, Step, json_values, programs, run_program, same, sessions

DOCUMENTS = ["README.md"]


@pytest.mark.parametrize("document", DOCUMENTS)
async def test_documents(suite: Suite, document: str) -> None:
    text = (ROOT / document).read_text()
    runner = Runner(suite)
    steps = list(sessions(text))
    assert {step.argv[0] for step in steps} == {"curl", "grpcurl"}
    for step in steps:
        await runner.run(step)
    for program, printed in programs(text):
        assert run_program(suite, program) == printed


def test_the_readme_shows_what_was_promised() -> None:
    commands = [" ".join(step.argv) for step in sessions(Path(ROOT / "README.md").read_text())]
    for shown in (" list", " describe ", "/PlaceOrder", "/StreamOrderBook", "/GetSettlement", "/api/v1/order"):
        assert any(shown in command for command in commands), shown
    assert len(list(programs(Path(ROOT / "README.md").read_text()))) == 1


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
    assert list(sessions(text)) == [
        Step(["curl", "-d", "{\n  1}", "http://x"], "out\n\n"),
        Step(["grpcurl", "y"], "{}\n", interrupted=True),
    ]
    assert json_values('{"a": 1}\n{"b": 2}\n{"c') == [{"a": 1}, {"b": 2}]
