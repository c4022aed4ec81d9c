"""Statements that go to PostgreSQL together: one trip to the server, however many they are.

psycopg's own pipeline sends each statement as soon as it is given and looks for answers every time. For the fifteen
statements of one message that is fifteen times a system call here and a waking of the server there, which costs more
than the statements do. Here they are collected, and leave in one piece when an answer is needed or the block ends
(libpq's pipeline mode, PostgreSQL 34.5)::

    Batch.add ─▶ waiting ──answer needed, or end of the block──▶ [BEGIN] [prepare] execute … sync ─▶ answers, in order

Values travel as libpq takes them: text and bytes as they are, numbers in decimal, a list as one array.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.waiting import Ready, Wait

Row = tuple[Any, ...]
_Result = Any  # psycopg.pq.abc.PGresult: each build of the driver has its own class

_TEXT, _BINARY = 0, 1


class Answer:
    """What a statement of a batch gives, once it was sent."""

    __slots__ = ("_batch", "_result", "formats", "sql", "values")

    def __init__(self, batch: Batch, sql: str, values: Sequence[Any]) -> None:
        self._batch = batch
        self._result: _Result = None
        self.sql = sql
        encoded = [_encoded(value) for value in values]
        self.values = [value for value, _ in encoded]
        self.formats = [format_ for _, format_ in encoded]

    def rows(self) -> list[Row]:
        """Every row. Sends what waits."""
        return self._batch.load(self._sent())

    def touched(self) -> int:
        """How many rows it changed. Sends what waits."""
        return self._sent().command_tuples or 0

    def take(self, result: _Result) -> None:
        self._result = result

    def _sent(self) -> _Result:
        if self._result is None:
            self._batch.send()
        if self._result is None:
            raise psycopg.InterfaceError("the batch of this statement has failed")
        return self._result


class Batch:
    """The statements that wait on one connection. Belongs to whoever has the connection, as that does."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver
        #: Statement → the name under which the server knows it on this connection.
        self._prepared: dict[str, bytes] = {}
        self._waiting: list[Answer] = []
        self._depth = 0
        self._reader = Transformer(driver)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Statements in this block leave when an answer is needed or the outermost block ends."""
        self._depth += 1
        try:
            yield
            if self._depth == 1:
                self.send()
        except BaseException:
            self._waiting.clear()  # their transaction is lost, and they must not get into the next one
            raise
        finally:
            self._depth -= 1

    def add(self, sql: str, values: Sequence[Any]) -> Answer:
        answer = Answer(self, sql, values)
        self._waiting.append(answer)
        if not self._depth:
            self.send()
        return answer

    def load(self, result: _Result) -> list[Row]:
        self._reader.set_pgresult(result)
        rows: list[Row] = self._reader.load_rows(0, result.ntuples, tuple)
        return rows

    def send(self) -> None:
        """Send what waits and take the answers. Raises the first error, as the driver does; then none has an answer,
        and the transaction is lost as ever."""
        if not self._waiting:
            return
        answers, self._waiting = self._waiting, []
        server = self._driver.pgconn
        server.enter_pipeline_mode()
        try:
            preparing = self._queue(answers)
            results = self._driver.wait(_exchange(server))
        except BaseException:  # whatever stands in the line now would be taken for the answer to something else
            self._driver.close()
            raise
        server.exit_pipeline_mode()
        self._give_out(answers, preparing, results)

    def _queue(self, answers: Sequence[Answer]) -> list[str | None]:
        """Hand everything to libpq. Returns what each result will be of: a prepared statement, ``""`` (BEGIN), or
        None for the next answer."""
        server = self._driver.pgconn
        order: list[str | None] = []
        if server.transaction_status == TransactionStatus.IDLE and not self._driver.autocommit:
            server.send_query_params(self._begin(), None)
            order.append("")
        known = dict(self._prepared)
        for answer in answers:
            name = known.get(answer.sql)
            if name is None:
                name = known[answer.sql] = b"lgsp_%d" % len(known)
                server.send_prepare(name, answer.sql.encode())
                order.append(answer.sql)
            server.send_query_prepared(name, answer.values, answer.formats, result_format=_BINARY)
            order.append(None)
        server.pipeline_sync()
        return order

    def _begin(self) -> bytes:
        words = b"BEGIN"
        if (level := self._driver.isolation_level) is not None:
            words += b" ISOLATION LEVEL " + psycopg.IsolationLevel(level).name.replace("_", " ").encode()
        if (read_only := self._driver.read_only) is not None:
            words += b" READ ONLY" if read_only else b" READ WRITE"
        return words

    def _give_out(self, answers: Sequence[Answer], order: Sequence[str | None], results: Sequence[_Result]) -> None:
        for prepared, result in zip(order, results, strict=True):
            if result.status == ExecStatus.FATAL_ERROR:  # nothing after it was done
                raise error_from_result(result, encoding=self._driver.info.encoding)
            if prepared:
                self._prepared[prepared] = b"lgsp_%d" % len(self._prepared)
        executed = [result for prepared, result in zip(order, results, strict=True) if prepared is None]
        for answer, result in zip(answers, executed, strict=True):
            answer.take(result)


def _exchange(server: Any) -> Generator[Wait, int, list[_Result]]:
    """Send what libpq holds and read up to the sync, in either order: a server whose answers nobody takes stops taking
    questions. One result for each command."""
    results: list[_Result] = []
    unsent, ended = True, False
    while True:
        ready = yield Wait.RW if unsent else Wait.R
        if ready & Ready.R:
            server.consume_input()
        if unsent:
            unsent = bool(server.flush())
        while not server.is_busy():
            result = server.get_result()
            if result is None:  # the end of one command; twice, the end of the connection
                if ended or server.status != ConnStatus.OK:
                    raise psycopg.OperationalError("the connection ended in mid-batch")
                ended = True
                continue
            ended = False
            if result.status == ExecStatus.PIPELINE_SYNC:
                return results
            results.append(result)


def _encoded(value: Any) -> tuple[bytes | None, int]:
    """A value and its format. Text goes as bytes with their length: as a C string it would end at its first NUL, where
    the server refuses one."""
    if value is None:
        return None, _TEXT
    if isinstance(value, str):
        return value.encode(), _BINARY
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), _BINARY
    if isinstance(value, Collection):
        return _array(value), _TEXT
    return str(value).encode(), _TEXT


def _array(items: Collection[Any]) -> bytes:
    """PostgreSQL 8.15.2: ``{1,2}``, ``{"a","b"}``."""
    return ("{" + ",".join(_item(item) for item in items) + "}").encode()


def _item(item: Any) -> str:
    if not isinstance(item, str):
        return str(item)
    if "\0" in item:
        raise psycopg.DataError("text may not contain NUL")
    return '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'
