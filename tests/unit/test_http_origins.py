"""Whose pages may use the shim: a table of who asks for what."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_http.origins import Origins

HERE = "127.0.0.1:8000"
ALLOWED = ("https://app.example",)
EVIL = "https://evil.example"


async def status(kind: str, method: str, origin: str | None, host: str, allowed: Any, *, open_mode: bool) -> int:
    """200 if it comes through; else what it is answered."""
    found: list[dict[str, Any]] = []

    async def inside(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "passed", "status": 200})

    async def send(message: Any) -> None:
        found.append(message)

    headers = [(b"host", host.encode())] + ([(b"origin", origin.encode())] if origin is not None else [])
    scope: dict[str, Any] = {"type": kind, "headers": headers}
    if kind == "http":
        scope["method"] = method
    await Origins(inside, allowed, open_mode=open_mode)(scope, None, send)  # type: ignore[arg-type]
    return int(found[0]["status"])


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("origin", "host", "allowed", "open_mode", "fine"),
    [
        # no browser, or our own page
        (None, HERE, (), True, True),
        (f"http://{HERE}", HERE, (), True, True),
        ("http://localhost:8000", "localhost:8000", (), True, True),
        ("http://[::1]:8000", "[::1]:8000", (), True, True),
        # another page, another port, a page without a place
        (EVIL, HERE, (), True, False),
        ("http://127.0.0.1:3000", HERE, (), True, False),
        ("null", HERE, (), True, False),
        ("", HERE, (), True, False),
        (EVIL, HERE, (), False, False),
        # named
        (ALLOWED[0], HERE, ALLOWED, True, True),
        (EVIL, HERE, ALLOWED, True, False),
        ("https://app.example.evil.example", HERE, ALLOWED, True, False),
        (EVIL, HERE, ("*",), True, True),
        # a name that its owner has made to lead here
        ("http://evil.example:8000", "evil.example:8000", (), True, False),
        ("https://api.example", "api.example", (), False, True),
        ("http://x", "", (), False, False),
    ],
)
async def test_pages(kind: str, origin: str | None, host: str, allowed: Any, open_mode: bool, fine: bool) -> None:
    assert await status(kind, "POST", origin, host, allowed, open_mode=open_mode) == (200 if fine else 403)


@pytest.mark.parametrize(("method", "fine"), [("GET", True), ("OPTIONS", True), ("POST", False), ("DELETE", False)])
async def test_what_changes_nothing_is_for_cors_to_judge(method: str, fine: bool) -> None:
    assert await status("http", method, EVIL, HERE, (), open_mode=True) == (200 if fine else 403)
