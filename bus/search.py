"""Finding messages by what a caller on the phone knows: agency, service, state, time, dossier. Newest first, in pages.

Each question goes along an index from its newest end, the one with the fewest rows::

    dossier                       exchanges_by_dossier
    dead, delivering, waiting     deliveries_dead, deliveries_leased, the outbox and the lines of dossiers
    set aside                     deliveries_set_aside
    agency                        exchanges_by_sender and deliveries_by_receiver, the newest of both
    sender, receiver              exchanges_by_sender, deliveries_by_receiver; both: whichever reaches further back
    service                       exchanges_of_service
    time alone, or nothing        the ids themselves, which grow with time

Other conditions are looked at row by row on the way, for one page no more than :data:`MOST_LOOKED_AT` rows of an index:
what is rare among much takes several pages, each of them soon there, and each says how far back it looked. An index on
states is not kept: every message would enter it and leave it again (measured: 12 µs of the server's 74 for a claim and
its end).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    func,
    literal_column,
    or_,
    select,
    true,
)

from bus.records import FoundDelivery, FoundMessage, FoundPage, State, Wanted
from bus.retention import OUT_OF_TURN, first_since
from bus.tables import RECEIVERS_PER_EXCHANGE, UNFINISHED, deliveries, exchanges, outbox
from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode, SystemCode
from schemas.moment import from_micros, to_micros

#: Messages of one page.
MOST_FOUND = 500
#: Rows along each index for one page; more than one exchange may have deliveries, else a page might not get past it.
MOST_LOOKED_AT = 1500


def search(connection: Connection, wanted: Wanted) -> list[FoundMessage]:
    """See :meth:`bus.ledger.Ledger.search`."""
    most = min(wanted.limit, MOST_FOUND)
    found: list[FoundMessage] = []
    before, rows = wanted.before, MOST_LOOKED_AT
    while len(found) < most:
        page = search_page(connection, replace(wanted, before=before, limit=most - len(found)), rows)
        found += page.messages
        before, rows = page.before, rows * 2
        if before is None:
            break
    return found


def search_page(connection: Connection, wanted: Wanted, rows: int = MOST_LOOKED_AT) -> FoundPage:
    """See :meth:`bus.ledger.Ledger.search_page`; ``rows``: looked at along each index."""
    most = min(wanted.limit, MOST_FOUND)
    low, high = _bounds(connection, wanted.since, wanted.until, wanted.before)
    looked = [
        _look(connection, index, most if index.straight else rows, most, low)
        for index in _indexes(wanted, low, high, rows)
    ]
    reached = (min if _between_two(wanted) else max)(index.reached for index in looked)
    ids = sorted({id_ for index in looked for id_ in index.found if id_ >= reached}, reverse=True)[:most]
    before = (ids[-1] if len(ids) == most else reached) or None
    if before is not None and before <= low:
        before = None
    since = select(exchanges.c.received_at).where(exchanges.c.id >= (before or 0)).order_by(exchanges.c.id).limit(1)
    reached_at = connection.execute(since).scalar() if before is not None else None
    return FoundPage(
        messages=tuple(_messages(connection, ids)),
        before=before,
        looked_back_to=None if reached_at is None else from_micros(reached_at),
    )


@dataclass(frozen=True, slots=True)
class _Index:
    """A way to exchanges, newest first: rows of ``id`` and ``fits``."""

    along: Select[Any]
    #: All that it leads to fits.
    straight: bool


@dataclass(frozen=True, slots=True)
class _Looked:
    """Exchanges that fit, newest first, and from which on all that fit are among them."""

    found: Sequence[int]
    reached: int


def _look(connection: Connection, index: _Index, limit: int, most: int, low: int) -> _Looked:
    found: dict[int, None] = {}
    looked, last = 0, low
    for last, fits in connection.execute(index.along.limit(limit)):
        looked += 1
        if fits:
            found[last] = None
            if len(found) == most:
                return _Looked(list(found), last)
    if looked < limit:
        return _Looked(list(found), low)
    # Other deliveries of the last exchange may be behind the last row.
    return _Looked(list(found), last if last in found else last + 1)


def _messages(connection: Connection, ids: Sequence[int]) -> list[FoundMessage]:
    rows = connection.execute(select(exchanges).where(exchanges.c.id.in_(ids)).order_by(exchanges.c.id.desc())).all()
    of: dict[int, list[FoundDelivery]] = {row.id: [] for row in rows}
    for delivery in connection.execute(_deliveries_of(ids)):
        of[delivery.exchange_id].append(
            FoundDelivery(
                receiver=AgencyCode.unchecked(delivery.receiver),
                system=SystemCode.unchecked(delivery.system),
                state=State(delivery.state),
                attempts=delivery.attempt,
                settled_at=None if delivery.settled_at is None else from_micros(delivery.settled_at),
            )
        )
    return [
        FoundMessage(
            exchange_id=row.id,
            message_id=MessageId.unchecked(row.message_id),
            received_at=from_micros(row.received_at),
            sender=AgencyCode.unchecked(row.sender),
            service=ServiceCode.unchecked(row.service),
            service_version=row.service_version,
            dossier=DossierCode.unchecked(row.dossier) if row.dossier else None,
            deliveries=tuple(of[row.id]),
        )
        for row in rows
    ]


def _bounds(
    connection: Connection, since: datetime | None, until: datetime | None, before: int | None
) -> tuple[int, int]:
    """Exchange ids from ``low`` up to and without ``high``: no more than may fit."""
    low = first_since(connection, since - OUT_OF_TURN) if since else 0
    highs = [(connection.execute(select(func.max(exchanges.c.id))).scalar() or 0) + 1]
    highs += [first_since(connection, until + OUT_OF_TURN)] if until else []
    highs += [before] if before is not None else []
    return low, min(highs)


def _between_two(wanted: Wanted) -> bool:
    """Is it found along two indexes, each of which alone finds all? What is of a dossier, or in a state that has an
    index, is few, and found along that."""
    few = wanted.dossier is not None or wanted.state not in (None, State.DELIVERED)
    return wanted.sender is not None and wanted.receiver is not None and not few


def _indexes(wanted: Wanted, low: int, high: int, rows: int) -> list[_Index]:
    """Each finds exchanges by itself; together they find all."""
    facts, agency, state = list(_facts(wanted)), wanted.agency, wanted.state
    sent, to_them = _sender(wanted), _receiver(wanted)
    if wanted.dossier is not None:
        fits = [*facts, *_party(agency), *sent, *_some(state, to_them)]
        return [_of_exchanges(low, high, exchanges.c.dossier == wanted.dossier, fits)]
    if state in (State.DEAD, State.DELIVERING, State.SET_ASIDE):
        return [_of_deliveries(low, high, _in(state), [*facts, *_either(agency), *sent, *to_them])]
    if state is State.WAITING:
        fits = [_in(state), *facts, *_either(agency), *sent, *to_them]
        return [_of_outbox(low, high, fits), _of_lines(low, high, fits, rows)]
    if wanted.sender is not None or wanted.receiver is not None:
        its = [] if state is None else [_in(state)]
        of_sender = _of_exchanges(low, high, and_(true(), *sent), [*facts, *_party(agency), *_some(state, to_them)])
        of_receiver = _of_deliveries(low, high, and_(true(), *to_them), [*facts, *_party(agency), *sent, *its])
        return [of_sender] * bool(sent) + [of_receiver] * bool(to_them)
    if agency is not None:
        its = [] if state is None else [_in(state)]
        return [
            _of_exchanges(low, high, exchanges.c.sender == agency, [*facts, *_some(state)]),
            _of_deliveries(low, high, deliveries.c.receiver == agency, [*facts, *its]),
        ]
    if wanted.service is not None:
        times = list(_facts(replace(wanted, service=None)))
        return [_of_exchanges(low, high, exchanges.c.service == wanted.service, [*times, *_some(state)])]
    return [_of_exchanges(low, high, true(), [*facts, *_some(state)])]


def _of_exchanges(low: int, high: int, entry: ColumnElement[bool], fits: Sequence[ColumnElement[bool]]) -> _Index:
    ids = exchanges.c.id
    along = select(ids, _all_of(fits)).where(entry, ids >= low, ids < high)
    return _Index(along.order_by(ids.desc()), straight=not fits)


def _of_deliveries(low: int, high: int, entry: ColumnElement[bool], fits: Sequence[ColumnElement[bool]]) -> _Index:
    """By the ids of deliveries, which stand in the order of their exchanges and name them: where no other fact of a
    delivery is asked for, the index is read and not its row."""
    ids = deliveries.c.id
    along = (
        select(exchanges.c.id, _all_of(fits))
        .join_from(deliveries, exchanges, exchanges.c.id == ids // RECEIVERS_PER_EXCHANGE)
        .where(entry, *_between(ids, low, high))
    )
    return _Index(along.order_by(ids.desc()), straight=not fits)


def _of_outbox(low: int, high: int, fits: Sequence[ColumnElement[bool]]) -> _Index:
    ids = outbox.c.delivery_id
    along = (
        select(exchanges.c.id, _all_of(fits))
        .join_from(outbox, deliveries, deliveries.c.id == ids)
        .join(exchanges, exchanges.c.id == deliveries.c.exchange_id)
        .where(*_between(ids, low, high))
    )
    return _Index(along.order_by(ids.desc()), straight=not fits)


def _of_lines(low: int, high: int, fits: Sequence[ColumnElement[bool]], rows: int) -> _Index:
    """What waits for an earlier message of its dossier: all of a short index, in an order that it does not have.
    Sorted by a sum, else SQLite goes along the whole table, which has that order."""
    ids = deliveries.c.id
    in_line = and_(deliveries.c.ordering_key.is_not(None), UNFINISHED, *_between(ids + 0, low, high))
    newest = select(ids).where(in_line).order_by((ids + 0).desc()).limit(rows).subquery()
    along = (
        select(exchanges.c.id, _all_of(fits))
        .join_from(newest, deliveries, deliveries.c.id == newest.c.id)
        .join(exchanges, exchanges.c.id == deliveries.c.exchange_id)
    )
    return _Index(along.order_by(newest.c.id.desc()), straight=False)


def _all_of(fits: Sequence[ColumnElement[bool]]) -> ColumnElement[bool]:
    return and_(true(), *fits).label("fits")


def _between(delivery_id: ColumnElement[int], low: int, high: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return delivery_id >= low * RECEIVERS_PER_EXCHANGE, delivery_id < high * RECEIVERS_PER_EXCHANGE


def _facts(wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    """What an exchange itself must be."""
    if wanted.service is not None:
        yield exchanges.c.service == wanted.service
    if wanted.since is not None:
        yield exchanges.c.received_at >= to_micros(wanted.since)
    if wanted.until is not None:
        yield exchanges.c.received_at < to_micros(wanted.until)


def _party(agency: AgencyCode | None) -> Iterator[ColumnElement[bool]]:
    """It sent the exchange, or is one of its receivers."""
    if agency is not None:
        yield or_(exchanges.c.sender == agency, _delivery_that(deliveries.c.receiver == agency))


def _sender(wanted: Wanted) -> list[ColumnElement[bool]]:
    return [] if wanted.sender is None else [exchanges.c.sender == wanted.sender]


def _receiver(wanted: Wanted) -> list[ColumnElement[bool]]:
    return [] if wanted.receiver is None else [deliveries.c.receiver == wanted.receiver]


def _some(state: State | None, fits: Sequence[ColumnElement[bool]] = ()) -> Iterator[ColumnElement[bool]]:
    """One of its deliveries is in this state, and fits."""
    if state is not None or fits:
        yield _delivery_that(and_(*fits, *([] if state is None else [_in(state)])))


def _delivery_that(fits: ColumnElement[bool]) -> ColumnElement[bool]:
    """The exchange has such a delivery. Counted: for EXISTS PostgreSQL may read the whole table once and hash it."""
    of_it = select(func.count()).select_from(deliveries).where(deliveries.c.exchange_id == exchanges.c.id, fits)
    # Of any of its deliveries, also where the question goes along deliveries itself.
    return of_it.correlate(exchanges).scalar_subquery() > 0


def _either(agency: AgencyCode | None) -> Iterator[ColumnElement[bool]]:
    """It sent the exchange, or receives this delivery."""
    if agency is not None:
        yield or_(exchanges.c.sender == agency, deliveries.c.receiver == agency)


def _in(state: State) -> ColumnElement[bool]:
    """Said in full, not bound: so partial indexes serve."""
    return deliveries.c.state == literal_column(f"'{state.value}'")


def _deliveries_of(ids: Sequence[int]) -> Select[Any]:
    return select(deliveries).where(deliveries.c.exchange_id.in_(ids)).order_by(deliveries.c.id)
