"""SQL statements compiled once for the store's dialect, for what runs with every message.

SQLAlchemy spends some 40 µs on each execution of a Core statement before the driver sees it, which is more than the
statement itself costs on SQLite. The three store files write their statements in Core all the same; this runs the
compiled text, with its positional parameters, straight through the driver, in the transaction that SQLAlchemy holds.
Errors are the driver's own.

A PostgreSQL server is some way off: there statements inside :func:`together` make one trip, and so do the rows of one
INSERT (:mod:`security.batches`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import Executable
from sqlalchemy.sql.elements import ClauseElement

from security.batches import Answer, Batch

#: What the compiler writes where a list of values belongs (``bindparam(..., expanding=True)``).
_LIST = "(__[POSTCOMPILE_{name}])"

Row = tuple[Any, ...]


def together(connection: Connection) -> AbstractContextManager[None]:
    """Statements in this block leave together where the store is across a network: when an answer is needed, or at the
    end of the block.

    One that fails may say so only then; the transaction is lost, as ever. Blocks may be nested.
    """
    return _batch(connection).together() if _is_postgresql(connection.dialect) else nullcontext()


def send_waiting(connection: Connection) -> None:
    """What waits on this connection goes before anything that is sent past :class:`Prepared`."""
    batch: Batch | None = connection.info.get(_BATCH)
    if batch is not None:
        batch.send()


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
        self._sql = str(compiled) + ending
        self._lists = [name for name in self._names if _LIST.format(name=name) in self._sql]
        if _is_postgresql(dialect):
            self._sql = _numbered(self._sql, self._lists)

    def rows(self, connection: Connection, values: Mapping[str, Any] | None = None) -> list[Row]:
        """Run once and return every row, in the order of the statement's columns."""
        return self.ask(connection, values)()

    def ask(self, connection: Connection, values: Mapping[str, Any] | None = None) -> Callable[[], list[Row]]:
        """Run once; the rows come when what is returned is called, once, in the same transaction."""
        if _is_postgresql(connection.dialect):
            return self._add(connection, values).rows
        cursor = self._run(connection, values)

        def answer() -> list[Row]:
            try:
                found: list[Row] = cursor.fetchall()
                return found
            finally:
                cursor.close()

        return answer

    def run(self, connection: Connection, values: Mapping[str, Any] | None = None) -> None:
        """Run once; nothing is returned."""
        if _is_postgresql(connection.dialect):
            self._add(connection, values)
        else:
            self._run(connection, values).close()

    def touch(self, connection: Connection, values: Mapping[str, Any] | None = None) -> int:
        """Run once and return how many rows it changed."""
        if _is_postgresql(connection.dialect):
            return self._add(connection, values).touched()
        cursor = self._run(connection, values)
        touched: int = cursor.rowcount
        cursor.close()
        return touched

    def many(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run for each row in one call; nothing is returned. No rows, no call."""
        if not rows:
            return
        names, fixed = self._names, self._fixed
        ordered = [tuple([row[n] if n in row else fixed[n] for n in names]) for row in rows]
        if _is_postgresql(connection.dialect):
            batch = _batch(connection)
            with batch.together():
                for values in ordered:
                    batch.add(self._sql, values)
            return
        cursor = _driver(connection).cursor()
        cursor.executemany(self._sql, ordered)
        cursor.close()

    def _add(self, connection: Connection, values: Mapping[str, Any] | None) -> Answer:
        given = {**self._fixed, **values} if values else self._fixed
        return _batch(connection).add(self._sql, [given[name] for name in self._names])

    def _run(self, connection: Connection, values: Mapping[str, Any] | None) -> Any:
        given = {**self._fixed, **values} if values else self._fixed
        sql, flat = self._sql, []
        for name in self._names:
            if name in self._lists:
                items = list(given[name])
                marks = ", ".join("?" * len(items)) or "NULL"  # IN (NULL) is never true
                sql = sql.replace(_LIST.format(name=name), f"({marks})")
                flat += items
            else:
                flat.append(given[name])
        cursor = _driver(connection).cursor()
        cursor.execute(sql, tuple(flat))
        return cursor


def _is_postgresql(dialect: Dialect) -> bool:
    return dialect.name == "postgresql"


def _numbered(sql: str, lists: Sequence[str]) -> str:
    """As the server itself takes it: ``$1`` for a value, and one array for a list, so that the text is always the same
    (an empty array holds nothing, as an empty list)."""
    for name in lists:
        sql = sql.replace(f"IN {_LIST.format(name=name)}", "= ANY (%s)")
    number = count(1)
    return re.sub("%[s%]", lambda found: "%" if found[0] == "%%" else f"${next(number)}", sql)


#: Where a connection keeps its batch.
_BATCH = "lgsp.batch"


def _batch(connection: Connection) -> Batch:
    """The connection's own, as long as the connection to the server is the same."""
    batch: Batch | None = connection.info.get(_BATCH)
    if batch is None:
        batch = connection.info[_BATCH] = Batch(_driver(connection))
    return batch


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection
