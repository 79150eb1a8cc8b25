"""Structured logs: pretty on a terminal, JSON elsewhere, always on stderr; the request id on every line; no secrets.

FORCE_COLOR says that a terminal is behind whoever reads stderr.
"""

import logging
import os
import random
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Literal, TextIO, get_args

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

Level = Literal["debug", "info", "warning", "error"]

REQUEST_ID_CHARS_MAX = 64
NESTING_LEVELS_MAX = 4
REDACTED = "[redacted]"

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The request that the running task works for; "" when none."""

_SECRET_KEY = re.compile(
    r"(^|[^a-z0-9])(authorization|token|password|passphrase|signature|cookie|credentials?|mnemonic|private[^a-z0-9]?key|api[^a-z0-9]?key)$"
    r"|secret"
)
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
_ids = random.Random()
"""Of names that need not be secret: a system call for each would cost more than all else about it."""
_REQUEST_ID = re.compile(rf"[A-Za-z0-9._:/+=-]{{1,{REQUEST_ID_CHARS_MAX}}}")


def get(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry `logger: name`."""
    logger: FilteringBoundLogger = structlog.get_logger(part=name)  # `logger` is taken by its own signature
    return logger


def bind_request(given: str | None = None) -> str:
    """Makes `given` the request id of this task, or a fresh one when it is missing or malformed; returns it."""
    identity = given if given and _REQUEST_ID.fullmatch(given) else f"{_ids.getrandbits(64):016x}"
    request_id.set(identity)
    return identity


def configure(service: str, level: Level = "info", stream: TextIO | None = None) -> None:
    """Sets up logging for the process: ours and that of the libraries, in one form.

    Args:
        service: stands on every line.
        level: the lowest level that is written.
        stream: stderr when not given.
    """
    if level not in get_args(Level):
        raise ValueError(f"unknown log level {level}")
    out = sys.stderr if stream is None else stream
    number = logging.getLevelNamesMapping()[level.upper()]

    def add_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        if part := event.pop("part", ""):
            event["logger"] = part
        if identity := request_id.get():
            event.setdefault("request_id", identity)
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_context,
    ]
    last: list[Processor] = [structlog.processors.StackInfoRenderer(), *_renderer(out)]
    structlog.configure(
        processors=shared + last,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,  # a hot path binds its own once; everybody else sees a new configuration
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # A library's chatter is nobody's business unless debugging is asked for.
    root.setLevel(number if level == "debug" else max(number, logging.WARNING))


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drops the values of keys that name secrets, and passwords out of URLs, at any depth."""
    for key, value in event.items():
        event[key] = _redacted(key, value, NESTING_LEVELS_MAX)
    return event


def _redacted(key: object, value: object, levels: int) -> object:
    if isinstance(key, str) and _SECRET_KEY.search(key.lower()):
        return REDACTED
    if isinstance(value, str):
        return _URL_PASSWORD.sub(r"\1***@", value) if "://" in value else value
    if isinstance(value, Mapping):
        return {k: _redacted(k, v, levels - 1) for k, v in value.items()} if levels else REDACTED
    if isinstance(value, list | tuple):
        return [_redacted(*_as_pair(item), levels - 1) for item in value] if levels else REDACTED
    return value


def _as_pair(item: object) -> tuple[object, object]:
    """Metadata and headers come as lists of (key, value): the key decides there too."""
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
        return item[0], item
    return "", item


def _renderer(out: TextIO) -> list[Processor]:
    if out.isatty() or os.environ.get("FORCE_COLOR"):
        plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        return [redact, plain]
    return [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer(serializer=_json)]


def _json(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
