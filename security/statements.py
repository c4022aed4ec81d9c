"""SQL statements compiled once for the store's dialect, for what runs with every message.

SQLAlchemy spends some 40 µs on each execution of a Core statement before the driver sees it, which is more than the
statement itself costs on SQLite. The three store files write their statements in Core all the same; this runs the
compiled text, with its positional parameters, straight through the driver, in the transaction that SQLAlchemy holds.
Errors are the driver's own.

A PostgreSQL server is some way off: there statements inside :func:`together` go out without waiting for the answers of
those before them, and the rows of one INSERT follow each other likewise. (One statement over arrays, ``unnest``, was
measured: dumping bodies into arrays costs the client more than the server saves.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import Executable
from sqlalchemy.sql.elements import ClauseElement

#: What the compiler writes where a list of values belongs (``bindparam(..., expanding=True)``).
_LIST = "(__[POSTCOMPILE_{name}])"

Row = tuple[Any, ...]


def together(connection: Connection) -> AbstractContextManager[object]:
    """Statements in this block are sent at once and answered later, where the store is across a network.

    One that fails may say so only when an answer is asked for, or at the end of the block: then the transaction is
    lost, as ever. Blocks may be nested.
    """
    if connection.dialect.name != "postgresql":
        return nullcontext()
    pipeline: AbstractContextManager[object] = _driver(connection).pipeline()
    return pipeline


class Prepared:
    """One statement, ready to run. Thread-safe; asks for a dialect with positional parameters (qmark or format)."""

    def __init__(
        self, statement: Executable, dialect: Dialect, columns: Sequence[str] | None = None, ending: str = ""
    ) -> None:
        """``columns``: those that an INSERT gives values for; all of the table's when not told. ``ending``: what
        follows in words that both dialects know (``ON CONFLICT …``)."""
        if not isinstance(statement, ClauseElement):
            raise TypeError("a Core statement is expected")
        compiled = statement.compile(dialect=dialect, column_keys=None if columns is None else list(columns))
        self._names: tuple[str, ...] = tuple(compiled.positiontup or ())  # type: ignore[attr-defined]
        self._fixed: Mapping[str, Any] = compiled.params
        self._mark = "?" if dialect.paramstyle == "qmark" else "%s"
        self._sql = str(compiled) + ending
        self._lists = [name for name in self._names if _LIST.format(name=name) in self._sql]

    def rows(self, connection: Connection, values: Mapping[str, Any] | None = None) -> list[Row]:
        """Run once and return every row, in the order of the statement's columns."""
        return self.ask(connection, values)()

    def ask(self, connection: Connection, values: Mapping[str, Any] | None = None) -> Callable[[], list[Row]]:
        """Run once; the rows come when what is returned is called, once, in the same transaction."""
        cursor = self._run(connection, values)

        def answer() -> list[Row]:
            try:
                found: list[Row] = cursor.fetchall()
                return found
            finally:
                cursor.close()

        return answer

    def run(self, connection: Connection, values: Mapping[str, Any] | None = None) -> int:
        """Run once and return how many rows it touched."""
        cursor = self._run(connection, values)
        touched: int = cursor.rowcount
        cursor.close()
        return touched

    def many(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run for each row in one call; nothing is returned. No rows, no call."""
        if not rows:
            return
        names, fixed = self._names, self._fixed
        cursor = _driver(connection).cursor()
        cursor.executemany(self._sql, [tuple([row[n] if n in row else fixed[n] for n in names]) for row in rows])
        cursor.close()

    def _run(self, connection: Connection, values: Mapping[str, Any] | None) -> Any:
        given = {**self._fixed, **values} if values else self._fixed
        sql, flat = self._sql, []
        for name in self._names:
            if name in self._lists:
                items = list(given[name])
                marks = ", ".join([self._mark] * len(items)) or "NULL"  # IN (NULL) is never true
                sql = sql.replace(_LIST.format(name=name), f"({marks})")
                flat += items
            else:
                flat.append(given[name])
        cursor = _driver(connection).cursor()
        cursor.execute(sql, tuple(flat))
        return cursor


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection
