"""Figures of flows: hours, days, percentiles, what old stores are given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import delete, insert, select

from bus.figures import KEPT_DAYS, Counts, Figures
from bus.overview import Overviews
from bus.store import Store, migrate, migration_config
from bus.tables import flow_days, flow_hours
from schemas.moment import VIETNAM, to_micros, utc_now
from tests.bus_world import World, bus_world, delivering, post

#: 2026-11-20 00:00 in Vietnam.
MIDNIGHT = datetime(2026, 11, 20, tzinfo=VIETNAM)


@pytest.fixture
def figures(tmp_path: Path) -> Iterator[Figures]:
    with bus_world(tmp_path) as world:
        yield Figures(world.bus.store)


def put(figures: Figures, moment: datetime, what: str, value: int, *flow: str) -> None:
    sender, service, system = flow or ("H99.15", "dossier.note", "H99.16/kho")
    hour = to_micros(moment) // 3_600_000_000
    row = {"hour": hour, "sender": sender, "service": service, "system": system, "what": what, "value": value}
    with figures._store.writing() as connection:
        connection.execute(insert(flow_hours), row)


def add_up(figures: Figures, now: datetime) -> int:
    return figures._store.write(figures.add_up, now)


def test_hours_and_days_give_the_same_sums(figures: Figures) -> None:
    for hours in range(0, 96, 5):
        put(figures, MIDNIGHT + timedelta(hours=hours), "accepted", hours + 1)
    until = MIDNIGHT + timedelta(hours=96)
    spans = [
        (MIDNIGHT + timedelta(hours=a), MIDNIGHT + timedelta(hours=b)) for a in (0, 7, 24, 50) for b in (60, 72, 96)
    ]
    before = [figures.flows(*span) for span in spans]
    days = sorted(figures.days(MIDNIGHT, until))
    assert add_up(figures, MIDNIGHT + timedelta(hours=73.5)) == 3
    assert add_up(figures, MIDNIGHT + timedelta(hours=73.6)) == 0
    after = [figures.flows(*span) for span in spans]
    assert [[flow.counts for flow in flows] for flows in after] == [[flow.counts for flow in flows] for flows in before]
    assert day_sums(figures.days(MIDNIGHT, until)) == day_sums(days)
    assert sum(day_sums(days).values()) == sum(range(1, 97, 5))


def day_sums(rows: Iterable[tuple[datetime, str, str, str, int]]) -> dict[datetime, int]:
    sums: dict[datetime, int] = {}
    for day, _, _, _, value in rows:
        sums[day] = sums.get(day, 0) + value
    return sums


def test_a_day_is_added_up_when_it_is_over_for_an_hour(figures: Figures) -> None:
    put(figures, MIDNIGHT + timedelta(hours=3), "accepted", 1)
    assert add_up(figures, MIDNIGHT + timedelta(hours=24, minutes=59)) == 0
    assert add_up(figures, MIDNIGHT + timedelta(hours=25)) == 1


def test_old_hours_go_day_by_day_and_their_sums_stay(figures: Figures) -> None:
    for day in range(3):
        put(figures, MIDNIGHT + timedelta(days=day), "delivered", 2)
    now = MIDNIGHT + timedelta(days=KEPT_DAYS + 2, hours=2)
    add_up(figures, now)
    add_up(figures, now)
    add_up(figures, now)
    with figures._store.reading() as connection:
        assert len(connection.execute(select(flow_hours)).all()) == 1
        assert len(connection.execute(select(flow_days)).all()) == 3
    assert figures.flows(MIDNIGHT, MIDNIGHT + timedelta(days=3))[0].counts.delivered == 6


def test_every_hour_is_there_and_only_the_affairs_of_an_agency(figures: Figures) -> None:
    put(figures, MIDNIGHT, "accepted", 3)
    put(figures, MIDNIGHT, "refused", 2, "H99.15", "dossier.note", "")
    put(figures, MIDNIGHT + timedelta(hours=1), "died", 5, "H99.16", "dossier.note", "H99.17/x")
    now = MIDNIGHT + timedelta(hours=23.5)
    read = Overviews(figures._store).read(now)
    hours = read.by_hour(None)
    assert len(hours) == 24
    assert hours[0].begins == MIDNIGHT
    assert (hours[0].counts.accepted, hours[0].counts.refused, hours[1].counts.died) == (3, 2, 5)
    of = {
        agency: sorted(
            (flow.sender, flow.receiver) for flow in figures.flows(MIDNIGHT, MIDNIGHT + timedelta(days=1), agency)
        )
        for agency in ("H99.15", "H99.16", "H99.17", "H99.1", "H99")
    }
    assert of == {
        "H99.15": [("H99.15", ""), ("H99.15", "H99.16")],
        "H99.16": [("H99.15", "H99.16"), ("H99.16", "H99.17")],
        "H99.17": [("H99.16", "H99.17")],
        "H99.1": [],
        "H99": [],
    }
    theirs = read.by_hour("H99.15")
    assert [hour.counts.died for hour in theirs[:2]] == [0, 0]


def test_the_first_screen_counts_as_the_map_does(figures: Figures) -> None:
    for hours, what, value in ((2, "ms <= 500", 3), (20, "ms <= 2000", 5), (20, "delivered", 8), (21, "accepted", 8)):
        put(figures, MIDNIGHT + timedelta(hours=hours), what, value)
    now = MIDNIGHT + timedelta(hours=23.5)
    (first,), (mapped,) = Overviews(figures._store).read(now).flows, figures.flows(MIDNIGHT, now)
    assert first.counts == mapped.counts
    assert first.counts.percentile_ms() == mapped.counts.percentile_ms() == pytest.approx(1920)


def test_what_comes_is_counted_also_in_the_last_second_of_an_hour(figures: Figures) -> None:
    overviews, now = Overviews(figures._store), MIDNIGHT + timedelta(hours=23.9)
    put(figures, MIDNIGHT + timedelta(hours=3), "accepted", 1)
    assert [hour.counts.accepted for hour in overviews.read(now).by_hour("H99.15")] == [0] * 3 + [1] + [0] * 20
    for hours in (22, 23):  # one of them is over
        put(figures, MIDNIGHT + timedelta(hours=hours), "accepted", 4)
        put(figures, MIDNIGHT + timedelta(hours=hours), "ms <= 10", 4)
    put(figures, MIDNIGHT + timedelta(hours=23), "accepted", 2, "H99.15", "dossier.other", "H99.16/kho")
    read = overviews.read(now)
    assert [hour.counts.accepted for hour in read.by_hour("H99.15")[-2:]] == [4, 6]
    assert {(flow.service, flow.counts.accepted, flow.last_hour) for flow in read.flows} == {
        ("dossier.note", 9, MIDNIGHT + timedelta(hours=23)),
        ("dossier.other", 2, MIDNIGHT + timedelta(hours=23)),
    }
    later = overviews.read(now + timedelta(hours=5))
    assert [hour.counts.accepted for hour in later.by_hour(None)[-8:]] == [0, 4, 6, 0, 0, 0, 0, 0]
    assert later.flows[0].counts == Counts(accepted=8, took={10.0: 8})
    assert later.flows[0].last_hour == MIDNIGHT + timedelta(hours=23)


@pytest.mark.parametrize(
    ("took", "p95"),
    [
        ({}, None),
        ({100.0: 100}, 97.5),
        ({10.0: 94, 100.0: 6}, 50 + 50 / 6),
        ({10.0: 1, float("inf"): 99}, float("inf")),
        ({1.0: 20}, 0.95),
    ],
)
def test_a_percentile_lies_between_the_bounds_of_its_bucket(took: dict[float, int], p95: float | None) -> None:
    found = Counts(took=took).percentile_ms()
    assert found == (p95 if p95 is None else pytest.approx(p95))


def test_shares_of_failures() -> None:
    assert Counts(accepted=5).failed_percent is None
    assert Counts(delivered=6, died=1, refused=1).failed_percent == 25.0


def test_an_old_store_is_given_the_figures_of_what_had_passed(tmp_path: Path) -> None:
    """What the migration adds up from the rows is what the ledger had added up as they came."""
    with bus_world(tmp_path) as world:
        _live(world)
        figures, since = Figures(world.bus.store), utc_now() - timedelta(days=1)
        before = figures.flows(since)
        assert [(flow.sender, flow.receiver) for flow in before] == [("H99.15", ""), ("H99.15", "H99.16")]
        _forget(world.bus.store)
        migrate(world.bus.store)
        assert figures.flows(since) == before


def _live(world: World) -> None:
    with world.serving() as url, delivering(world.bus):
        assert post(url, world.signed(service="dossier.note")).status == 202
        assert post(url, world.signed(service="dossier.limited")).status == 403


def _forget(store: Store) -> None:
    with store.writing() as connection:
        connection.execute(delete(flow_hours))
        command.downgrade(migration_config(connection), "0015")
