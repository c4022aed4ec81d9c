"""The generator of large stores: what it writes is what the ledger would have written."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from benchmarks.million import make
from bus.assembly import Bus, open_bus
from bus.bundles import bundle_of, trust_of
from bus.dossiers import statistics_of
from bus.figures import Figures
from bus.monthly import MonthKeeper, added, bounds_of, unit_figures
from bus.settings import load_settings
from bus.tables import deliveries, exchanges
from schemas.identifiers import MessageId
from schemas.moment import utc_now
from security.verifier import Trust, verify_bundle

COUNT = 3000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    settings = load_settings(environ={"LGSP_HOME": str(tmp_path_factory.mktemp("million") / "home")})
    make(settings, COUNT, sign_every=2, tell=lambda _: None)
    bus = open_bus(settings)
    yield bus
    bus.close()


def test_the_evidence_log_is_whole_and_proofs_verify(made: Bus) -> None:
    with made.store.reading() as connection:
        assert made.log.verify_all(connection).faults == ()
        found = connection.execute(select(exchanges.c.message_id).order_by(exchanges.c.id).limit(2)).scalars().all()
    signed, unsigned = (made.ledger.find(MessageId(each)) for each in reversed(found))
    assert signed is not None
    assert unsigned is not None
    trust = Trust.read(trust_of(made))
    assert verify_bundle(bundle_of(made, signed), trust).holds
    assert not verify_bundle(bundle_of(made, unsigned), trust).holds


def test_figures_of_flows_agree_with_the_rows(made: Bus) -> None:
    since = utc_now() - timedelta(days=40)
    flows = Figures(made.store).flows(since)
    with made.store.reading() as connection:
        messages = connection.execute(select(func.count()).select_from(exchanges)).scalar()
        by_state = dict(connection.execute(select(deliveries.c.state, func.count()).group_by(deliveries.c.state)).all())
    assert sum(flow.counts.accepted for flow in flows) == messages
    assert sum(flow.counts.delivered for flow in flows) == by_state["delivered"]
    assert sum(flow.counts.died for flow in flows) == by_state["dead"]
    assert messages == COUNT - sum(flow.counts.refused for flow in flows)


def test_months_are_made_one_after_the_other_and_agree_with_the_statistics(made: Bus) -> None:
    figures, now = Figures(made.store), utc_now()
    keeper = MonthKeeper(made)
    names = []
    while (name := keeper.run_once(now)) is not None:
        names.append(name)
    assert names == sorted(names, reverse=True)
    assert 1 <= len(names) <= 3
    assert keeper.run_once(now + timedelta(minutes=5)) is None
    assert keeper.run_once(now + timedelta(minutes=12)) == names[0]
    for name in names:
        since, until = bounds_of(name)
        total = statistics_of(made.ledger.milestones(since, until), since, until, now).total
        rows = figures.month(name, "dossiers")
        assert unit_figures(added(rows)) == total
    numbers = added([row for name in names for row in figures.month(name, "dossiers")])
    assert numbers["payments_paid"] > 0
    assert numbers["parcel đã phát"] > numbers["parcel đang chuyển"]
    days = added([row for name in names for row in figures.month(name, "days", "")])
    flows = added([row for name in names for row in figures.month(name, "flows")])
    assert days["accepted"] == flows["sent accepted"] == flows["got accepted"]
