"""Statements that go to PostgreSQL together: their answers, their order, and what is left when one of them fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from security.batches import Answer, Batch
from tests.postgresql import PrivateServer

pytestmark = pytest.mark.service


@pytest.fixture
def driver(postgresql: PrivateServer) -> Iterator[psycopg.Connection[Any]]:
    url = postgresql.url(postgresql.new_database()).replace("+psycopg", "")
    with psycopg.connect(url, prepare_threshold=None) as connection:
        connection.execute("CREATE TABLE kept (id BIGINT PRIMARY KEY, word TEXT, bytes BYTEA)")
        connection.commit()
        yield connection


@pytest.fixture
def batch(driver: psycopg.Connection[Any]) -> Batch:
    return Batch(driver)


INSERT = "INSERT INTO kept (id, word, bytes) VALUES ($1, $2, $3)"
ALL = "SELECT id, word, bytes FROM kept ORDER BY id"


def together(batch: Batch, answers: list[Answer], *statements: tuple[str, tuple[Any, ...]]) -> None:
    with batch.together():
        for sql, values in statements:
            answers.append(batch.add(sql, values))


def test_answers_come_in_order_whoever_asks_first(batch: Batch) -> None:
    with batch.together():
        for number in range(3):
            batch.add(INSERT, (number, f"số {number}", None))
        first = batch.add("SELECT count(*) FROM kept", ())
        changed = batch.add("UPDATE kept SET word = $1 WHERE id > $2", ("đã đổi", 0))
        every = batch.add(ALL, ())
        assert every.rows() == [(0, "số 0", None), (1, "đã đổi", None), (2, "đã đổi", None)]
        assert (first.rows(), changed.touched()) == ([(3,)], 2)


@pytest.mark.parametrize(
    "value",
    [
        ("chữ", b"\x00\xff"),
        ("", b""),
        (None, None),
        ("'; DROP TABLE kept; --", b"'"),
        ("$1 %s \\ \" ' {a,b}", b"\\000"),
        ("x" * 300_000, b"y" * 3_000_000),
    ],
    ids=["usual", "empty", "null", "injection", "marks", "large"],
)
def test_values_come_back_as_they_went(batch: Batch, value: tuple[str | None, bytes | None]) -> None:
    batch.add(INSERT, (1, *value))
    assert batch.add(ALL, ()).rows() == [(1, *value)]


def test_a_list_is_one_array_whatever_its_length_and_its_words(batch: Batch) -> None:
    words = ["a,b", '"', "\\", "{}", "NULL", "", "Đà Nẵng"]
    with batch.together():
        for number, word in enumerate(words):
            batch.add(INSERT, (number, word, b""))
    asked = "SELECT word FROM kept WHERE word = ANY ($1) ORDER BY id"
    assert [word for (word,) in batch.add(asked, (words,)).rows()] == words
    assert batch.add(asked, ([],)).rows() == []
    assert batch.add("SELECT id FROM kept WHERE id = ANY ($1)", ({2, 5, 99},)).rows() == [(2,), (5,)]


def test_many_large_answers_do_not_stop_the_questions(batch: Batch) -> None:
    """Both sides write at once: a client that only wrote would wait for a server that waits for it."""
    with batch.together():
        asked = [batch.add("SELECT repeat('x', 100000), $1::text", ("y" * 100_000,)) for _ in range(60)]
    assert all(len(answer.rows()[0][0]) == 100_000 for answer in asked)


@pytest.mark.parametrize(
    ("sql", "values", "error"),
    [
        (INSERT, (1, "lần nữa", None), psycopg.errors.UniqueViolation),
        (INSERT, (2, "nul\x00", None), psycopg.errors.CharacterNotInRepertoire),
        (INSERT, ("no number", None, None), psycopg.Error),
        ("SELECT nothing FROM nowhere", (), psycopg.errors.UndefinedTable),
        ("SELEC", (), psycopg.errors.SyntaxError),
        ("SELECT 1 WHERE 'a' = ANY ($1)", (["nul\x00"],), psycopg.DataError),
    ],
    ids=["twice", "NUL", "no number", "no table", "no statement", "NUL in a list"],
)
def test_one_that_fails_loses_the_transaction_and_not_the_connection(
    batch: Batch, driver: psycopg.Connection[Any], sql: str, values: tuple[Any, ...], error: type[Exception]
) -> None:
    batch.add(INSERT, (1, "đứng", None))
    driver.commit()
    answers: list[Answer] = []
    with pytest.raises(error):
        together(batch, answers, (INSERT, (7, "trước", None)), (sql, values), (INSERT, (8, "sau", None)))
    driver.rollback()
    for answer in answers:
        with pytest.raises(psycopg.InterfaceError):
            answer.rows()
    assert batch.add(ALL, ()).rows() == [(1, "đứng", None)]
    batch.add(INSERT, (9, "sau nữa", None))  # prepared under a name that the failed batch may have taken
    driver.commit()


def test_what_waits_when_a_block_is_left_by_an_exception_is_never_sent(batch: Batch) -> None:
    def fails() -> None:
        with batch.together():
            batch.add(INSERT, (1, "không", None))
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert batch.add(ALL, ()).rows() == []


def test_nested_blocks_leave_with_the_outermost(batch: Batch, postgresql: PrivateServer) -> None:
    with batch.together():
        with batch.together():
            waiting = batch.add("SELECT now()", ())
        assert waiting._result is None
    assert waiting._result is not None


def test_it_begins_the_transaction_that_the_driver_ends(batch: Batch, driver: psycopg.Connection[Any]) -> None:
    batch.add(INSERT, (1, "mất", None))
    driver.rollback()
    assert batch.add(ALL, ()).rows() == []
    driver.rollback()
    driver.isolation_level, driver.read_only = psycopg.IsolationLevel.REPEATABLE_READ, True
    said = batch.add("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')", ())
    assert said.rows() == [("repeatable read", "on")]


def test_a_connection_that_ends_in_mid_batch_is_closed(
    batch: Batch, driver: psycopg.Connection[Any], postgresql: PrivateServer
) -> None:
    batch.add("SELECT 1", ())
    with pytest.raises(psycopg.OperationalError):
        together(batch, [], ("SELECT pg_terminate_backend(pg_backend_pid())", ()), ("SELECT 2", ()))
    assert driver.closed or driver.pgconn.status != psycopg.pq.ConnStatus.OK
