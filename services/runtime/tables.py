"""SQLAlchemy Core for table definitions and queries; executed by the raw drivers."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Numeric, Text
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql import Select
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlalchemy.util import LRUCache

from services.runtime import db

AMOUNT_DIGITS_MAX = 78
COMPILED_MAX = 512

_DIALECTS: dict[str, Dialect] = {"sqlite": sqlite.dialect(), "postgresql": asyncpg.dialect()}  # type: ignore[no-untyped-call]
_cache: LRUCache[Any, Any] = LRUCache(COMPILED_MAX)


class Amount(TypeDecorator[int]):
    """An unbounded whole number of base units: NUMERIC(78, 0) in PostgreSQL, decimal TEXT in SQLite."""

    impl = Numeric(AMOUNT_DIGITS_MAX, 0)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """TEXT in SQLite, whose NUMERIC would be a float."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else Numeric(AMOUNT_DIGITS_MAX, 0))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        """An int as the driver takes it."""
        if value is None:
            return None
        return str(value) if dialect.name == "sqlite" else Decimal(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - the base class's
        """An int, exactly."""
        return None if value is None else int(value)


def compiled(query: Select[Any], dialect: db.Dialect) -> tuple[str, Sequence[Any]]:
    """The SQL text of a query and its parameters in order, ready for the driver.

    The text is cached by the query's shape, by the same inner calls that SQLAlchemy's engine makes.
    """
    compiler, extracted, *_ = query._compile_w_cache(_DIALECTS[dialect], compiled_cache=_cache, column_keys=[])
    assert isinstance(compiler, SQLCompiler)
    values = compiler.construct_params(extracted_parameters=extracted, escape_names=False, _no_postcompile=True)
    text, order = compiler.string, tuple(compiler.positiontup or ())
    processors: dict[str, Any] = dict(compiler._bind_processors)
    if compiler.post_compile_params:  # an IN list: its text depends on how many values it has
        state = compiler._process_parameters_for_postcompile(values)
        text, values, order = state.statement, dict(state.parameters), tuple(state.positiontup or ())
        processors |= state.processors
    return text, [processors[name](values[name]) if name in processors else values[name] for name in order]
