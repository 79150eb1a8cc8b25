"""Cells of exports: what a spreadsheet would run is text, what is a number stays one."""

from __future__ import annotations

import pytest
from clearbook.v1 import account_service_pb2 as pb

from services.cli.cells import cell, csv_cell


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("+41", "'+41"),
        ("-cmd|'/C calc'!A0", "'-cmd|'/C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("＝1", "'＝1"),
        ("-1-1", "'-1-1"),
        ("-12.50", "-12.50"),
        ("-0", "-0"),
        ("12.50", "12.50"),
        ("a=1", "a=1"),
        ("", ""),
    ],
)
def test_formulas(text: str, expected: str) -> None:
    message = pb.Transfer(reason=text)
    assert csv_cell(message, "reason") == expected
    assert cell(message, "reason") == text
