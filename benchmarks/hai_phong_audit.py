"""What became of every message of the half-year: acknowledged = in the ledger = delivered = acted upon once = proven;
and do the statistics say what happened?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select

from benchmarks.faults_receiver import Arrival, read_arrivals
from benchmarks.hai_phong_facts import FIRST_DAY, LAST_DAY, Errand, HalfYear
from bus.assembly import Bus
from bus.bundles import bundle_of, trust_of
from bus.dossiers import Statistics, statistics_of
from bus.records import State
from bus.tables import attempts, deliveries, exchanges
from registry.model import Pattern
from schemas.codec import write_json
from schemas.identifiers import MessageId
from schemas.message import sha256_hex
from schemas.moment import VIETNAM, utc_now
from schemas.problem import Problem
from security.verifier import Trust, verify_bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message for which its sender holds a receipt."""

    message_id: str
    receipt_sha256: str
    errand: Errand


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the audit saw. Nothing is wrong when there are no complaints."""

    accepted: int
    #: Of those: with exactly one effect at their receivers, with more, with none.
    once: int
    twice: int
    lost: int
    #: Calls that the receivers got, repeats among them.
    arrivals: int
    dead: int
    leaves: int
    #: Messages whose bundle went through the offline verifier.
    bundles: int
    received: int
    returned: int
    still_open: int
    by_unit: Mapping[str, Mapping[str, int]]
    complaints: Sequence[str]


def audit(bus: Bus, half_year: HalfYear, sent: Sequence[Sent], arrivals_file: Path, *, most_bundles: int) -> Findings:
    """Of a bus that has nothing more to deliver."""
    bus.seal_evidence(utc_now())
    arrivals = read_arrivals(arrivals_file)
    effects = Counter(arrival.key for arrival in arrivals if arrival.what == "effect")
    counts = [effects[one.message_id] for one in sent]
    strangers = effects.keys() - {one.message_id for one in sent} - _look_ups(bus)
    leaves, faults = _leaves(bus)
    chosen = sent[:: max(1, -(-len(sent) // most_bundles))]
    statistics = statistics_in(bus)
    complaints = [
        *faults,
        *_not_all_sent(half_year, sent),
        *_ledger(bus, sent),
        *(f"{arrival.key}: another body under a known key" for arrival in arrivals if arrival.what == "conflict"),
        *(f"{key}: an effect without a receipt" for key in strangers),
        *(f"{one.message_id}: {count} effects" for one, count in zip(sent, counts, strict=True) if count != 1),
        *_out_of_order(sent, arrivals),
        *_not_proven(bus, half_year, chosen),
        *differences(half_year, statistics),
    ]
    total = statistics.total
    return Findings(
        accepted=len(sent),
        once=counts.count(1),
        twice=sum(count > 1 for count in counts),
        lost=counts.count(0),
        arrivals=len(arrivals),
        dead=_one_way_states(bus)[State.DEAD],
        leaves=leaves,
        bundles=len(chosen),
        received=total.received,
        returned=total.returned,
        still_open=total.in_progress,
        by_unit={figures.unit: _numbers(figures, half_year) for figures in statistics.units},
        complaints=complaints,
    )


def statistics_in(bus: Bus) -> Statistics:
    """`lgsp stats` over the half-year, as on its last evening."""
    since, until = _midnight(FIRST_DAY), _midnight(LAST_DAY + timedelta(days=1))
    return statistics_of(bus.ledger.milestones(since, until), since, until, until - timedelta(seconds=1))


def differences(half_year: HalfYear, statistics: Statistics) -> Iterator[str]:
    """Where the statistics do not say what happened."""
    expected = half_year.expected()
    found = {figures.unit: _numbers(figures, half_year) for figures in statistics.units}
    for unit in sorted(expected.keys() | found.keys()):
        wanted = asdict(expected[unit]) if unit in expected else {}
        if wanted != found.get(unit, {}):
            yield f"statistics of {unit}: {found.get(unit)}, not {wanted}"


def _numbers(figures: object, half_year: HalfYear) -> dict[str, int]:
    names = next(iter(half_year.expected().values())).__dataclass_fields__
    return {name: getattr(figures, name) for name in names}


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=VIETNAM)


def _not_all_sent(half_year: HalfYear, sent: Sequence[Sent]) -> Iterator[str]:
    wanted = Counter(errand for dossier in half_year.dossiers for errand in half_year.errands(dossier))
    have = Counter(one.errand for one in sent)
    for errand in (wanted - have) + (have - wanted):
        yield f"{errand.dossier.code}: {errand.service} was accepted {have[errand]} times"


def _ledger(bus: Bus, sent: Sequence[Sent]) -> Iterator[str]:
    """What the ledger says of each message, and has no sender for."""
    known = {one.message_id: one for one in sent}
    statement = (
        select(
            exchanges.c.message_id, exchanges.c.receipt, deliveries.c.state, deliveries.c.leaf,
            deliveries.c.receipt.label("proof"),
        )
        .join(deliveries, deliveries.c.exchange_id == exchanges.c.id)
        .where(exchanges.c.pattern == Pattern.ONE_WAY)
    )  # fmt: skip
    with bus.store.reading() as connection:
        for row in connection.execute(statement, execution_options={"yield_per": 2000}):
            one = known.pop(row.message_id, None)
            if one is None:
                yield f"{row.message_id}: in the ledger, and nobody holds a receipt"
            elif sha256_hex(row.receipt.encode()) != one.receipt_sha256:
                yield f"{row.message_id}: its sender holds another receipt"
            elif row.state != State.DELIVERED:
                yield f"{row.message_id}: it is {row.state}"
            elif row.leaf is None or row.proof is None:
                yield f"{row.message_id}: its delivery is not proven"
    yield from (f"{message_id}: acknowledged and not in the ledger" for message_id in known)


def _look_ups(bus: Bus) -> set[str]:
    """Message ids of the questions, answered or not."""
    with bus.store.reading() as connection:
        asked = select(exchanges.c.message_id).where(exchanges.c.pattern == Pattern.REQUEST_REPLY)
        return set(connection.execute(asked).scalars())


def _one_way_states(bus: Bus) -> Counter[str]:
    """Deliveries by state; look-ups are their callers' to repeat, and are no dead letters."""
    statement = (
        select(deliveries.c.state, func.count().label("deliveries"))
        .join(exchanges, exchanges.c.id == deliveries.c.exchange_id)
        .where(exchanges.c.pattern == Pattern.ONE_WAY)
        .group_by(deliveries.c.state)
    )
    with bus.store.reading() as connection:
        return Counter({row.state: row.deliveries for row in connection.execute(statement)})


def _leaves(bus: Bus) -> tuple[int, list[str]]:
    """The log verifies, and has a leaf for each acceptance, each refusal and each end of a delivery, and no other."""
    with bus.store.reading() as connection:
        audited = bus.log.verify_all(connection)
        accepted = connection.execute(select(func.count()).select_from(exchanges)).scalar_one()
        ends = select(func.count()).select_from(attempts).where(attempts.c.outcome != State.WAITING)
        ended = connection.execute(ends).scalar_one()
    refused = sum(value for (name, _), value in bus.ledger.totals().items() if name == "refused")
    faults = list(audited.faults)
    if audited.leaves != accepted + refused + ended:
        faults.append(f"{audited.leaves} leaves for {accepted} messages, {refused} refusals and {ended} ends")
    return audited.leaves, faults


def _out_of_order(sent: Iterable[Sent], arrivals: Sequence[Arrival]) -> Iterator[str]:
    """Dossiers whose result came before the news that they are worked on: both go to the same desk."""
    place = {arrival.key: number for number, arrival in enumerate(arrivals) if arrival.what == "effect"}
    at_desk: dict[str, dict[str, int]] = defaultdict(dict)
    for one in sent:
        at_desk[one.errand.dossier.code][one.errand.service] = place.get(one.message_id, -1)
    for dossier, places in at_desk.items():
        if "result.return" in places and places["result.return"] < places.get("dossier.progress", -1):
            yield f"{dossier}: out of order"


def _not_proven(bus: Bus, half_year: HalfYear, chosen: Iterable[Sent]) -> Iterator[str]:
    trust = Trust.read(trust_of(bus))
    for one in chosen:
        record = bus.ledger.find(MessageId(one.message_id))
        try:
            holds = (
                record is not None
                and verify_bundle(bundle_of(bus, record), trust, write_json(half_year.payload(one.errand))).holds
            )
        except Problem:
            holds = False
        if not holds:
            yield f"{one.message_id}: its bundle does not verify"
