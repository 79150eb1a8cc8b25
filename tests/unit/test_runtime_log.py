import asyncio
import io
import json
import logging
from typing import Any

import pytest
import structlog

from services.runtime import log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restore() -> Any:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    log.request_id.set("")


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_of_json_elsewhere() -> None:
    stream = io.StringIO()
    log.configure("book", "info", stream)
    log.get("journal").info("appended", rows=3)
    [line] = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "appended", "level": "info", "logger": "journal", "rows": 3, "service": "book"}


def test_something_readable_on_a_terminal() -> None:
    stream = Terminal()
    log.configure("book", "info", stream)
    log.get("journal").info("appended", rows=3, token="abc")
    assert "appended" in stream.getvalue()
    assert "abc" not in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_the_level_holds_and_libraries_speak_in_our_form() -> None:
    stream = io.StringIO()
    log.configure("book", "info", stream)
    log.get("x").debug("quiet")
    logging.getLogger("aiormq").info("chatter")
    logging.getLogger("aiormq").warning("lost %s", "it")
    assert [(line["event"], line["logger"], line["service"]) for line in lines(stream)] == [
        ("lost it", "aiormq", "book")
    ]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="loud"):
        log.configure("book", "loud")  # type: ignore[arg-type]


async def test_the_request_id_is_on_every_line_of_its_task() -> None:
    stream = io.StringIO()
    log.configure("book", "info", stream)

    async def work(identity: str) -> None:
        log.bind_request(identity)
        await asyncio.sleep(0)
        log.get("x").info(identity)

    await asyncio.gather(*(asyncio.create_task(work(identity)) for identity in ("a", "b")))
    log.get("x").info("none")
    assert [(line["event"], line.get("request_id")) for line in lines(stream)] == [
        ("a", "a"),
        ("b", "b"),
        ("none", None),
    ]


@pytest.mark.parametrize(
    "key",
    [
        "authorization", "Authorization", "token", "bearer_token", "x-signature", "signature", "password", "api_key",
        "API-KEY", "private_key", "SETTLEMENT_PRIVATE_KEY", "client_secret", "secret_name", "cookie", "mnemonic",
    ],
)  # fmt: skip
def test_secrets_are_dropped_at_any_depth(key: str) -> None:
    event = log.redact(
        None,
        "info",
        {
            key: "hunter2",
            "a": {key: "hunter2"},
            "b": [{key: "hunter2"}],
            "c": [(key, "hunter2")],
        },
    )
    assert "hunter2" not in json.dumps(event)


@pytest.mark.parametrize("key", ["token_address", "tokens", "keys", "signatures_checked", "event", "password_age_days"])
def test_what_is_no_secret_stays(key: str) -> None:
    assert log.redact(None, "info", {key: "plain"}) == {key: "plain"}


def test_passwords_in_urls_and_in_stack_traces_are_dropped() -> None:
    stream = io.StringIO()
    log.configure("book", "info", stream)
    error = OSError("cannot reach amqp://guest:hunter2@host:5672/ now")
    log.get("x").error("failed", uri="postgresql://u:hunter2@h/d", exc_info=error)
    [line] = lines(stream)
    assert "hunter2" not in stream.getvalue()
    assert line["uri"] == "postgresql://u:***@h/d"
    assert "amqp://guest:***@host" in line["exception"]


def test_what_json_does_not_know_is_printed() -> None:
    stream = io.StringIO()
    log.configure("book", "info", stream)
    log.get("x").info("odd", value=object(), data=b"\x00", big=10**40)
    assert len(lines(stream)) == 1
