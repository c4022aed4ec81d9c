"""How fast the console is over a large store: every page over HTTP with a signed-in session, as the 95th percentile.

::

    python -m benchmarks.million --home /tmp/million
    python -m benchmarks.console_speed --home /tmp/million                  # --store-url for PostgreSQL

Goal (issue 6): 300 ms with a million messages; and what an open page costs that renews its parts. The store is looked
at and, but for the session and for months that were not added up yet, not changed.
"""

from __future__ import annotations

import argparse
import html
import json
import random
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import urllib3
from sqlalchemy import func, select

from benchmarks.million import SERVICES, citizen_of
from benchmarks.processes import Running, free_port, sample, start_server
from bus.assembly import Bus, open_bus
from bus.figures import Figures
from bus.monthly import MonthKeeper, month_of
from bus.people import AuditEvent, People, PersonRole
from bus.settings import Settings, load_settings
from bus.tables import exchanges
from schemas.identifiers import MessageId
from schemas.moment import utc_now
from security.tokens import hash_secret

_NAME, _PASSWORD = "do-toc-do", "ba con trâu đứng gặm cỏ"
GOAL_MS: Final = 300.0
_PART: Final = re.compile(r'data-part="([^"]+)" data-every="([0-9]+)"')
_FORM_KEY: Final = re.compile(r'name="form_key" value="([^"]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What of the store addresses are made of."""

    messages: Sequence[str]
    #: Their places in the list, and their traces.
    places: Sequence[int]
    traces: Sequence[str]
    dossiers: Sequence[str]
    agencies: Sequence[str]
    month: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A page, or a deed that changes nothing (``form``), by what it asks for."""

    name: str
    path: Callable[[Facts, random.Random], str]
    form: Callable[[Facts, random.Random], Mapping[str, str]] | None = None


def _fixed(path: str) -> Callable[[Facts, random.Random], str]:
    return lambda _facts, _chance: path


#: A page that is not there is told as such and measured no further. Add yours.
VISITS: Final[tuple[Visit, ...]] = (
    Visit(name="first screen", path=_fixed("/console/")),
    Visit(name="first screen, its live part", path=_fixed("/console/parts/overview")),
    Visit(
        name="search, message id",
        path=_fixed("/console/search"),
        form=lambda facts, chance: {"q": chance.choice(facts.messages)},
    ),
    Visit(
        name="search, dossier",
        path=_fixed("/console/search"),
        form=lambda facts, chance: {"q": chance.choice(facts.dossiers)},
    ),
    Visit(
        name="search, citizen number",
        path=_fixed("/console/search"),
        form=lambda _, chance: {"q": citizen_of(chance.randrange(100_000))},
    ),
    Visit(
        name="search, trace",
        path=_fixed("/console/search"),
        form=lambda facts, chance: {"q": chance.choice(facts.traces)},
    ),
    Visit(name="search, part of a name", path=_fixed("/console/search"), form=lambda _, chance: {"q": "ngành số 2"}),
    Visit(name="messages", path=_fixed("/console/messages")),
    Visit(
        name="messages, second page",
        path=lambda facts, chance: f"/console/messages?before={chance.choice(facts.places)}",
    ),
    Visit(name="messages given up", path=_fixed("/console/messages?state=dead")),
    Visit(
        name="messages of a service",
        path=lambda facts, chance: f"/console/messages?service={chance.choice(SERVICES)}",
    ),
    Visit(
        name="messages of an agency and a service",
        path=lambda facts, chance: (
            f"/console/messages?agency={chance.choice(facts.agencies)}&service={chance.choice(SERVICES)}"
        ),
    ),
    Visit(
        name="messages of an agency",
        path=lambda facts, chance: f"/console/messages?agency={chance.choice(facts.agencies)}",
    ),
    Visit(name="message", path=lambda facts, chance: f"/console/messages/{chance.choice(facts.messages)}"),
    Visit(name="dossier", path=lambda facts, chance: f"/console/dossiers/{chance.choice(facts.dossiers)}"),
    Visit(name="map, 24 hours", path=_fixed("/console/map")),
    Visit(name="map, 7 days", path=_fixed("/console/map?span=7d")),
    Visit(name="map, 30 days", path=_fixed("/console/map?span=30d")),
    Visit(name="statistics", path=lambda facts, _: f"/console/statistics?month={facts.month}"),
    Visit(
        name="statistics of a unit",
        path=lambda facts, chance: f"/console/statistics?month={facts.month}&unit={chance.choice(facts.agencies)}",
    ),
    Visit(name="monthly report", path=lambda facts, _: f"/console/statistics/report/{facts.month}"),
    Visit(name="statistics as XLSX", path=lambda facts, _: f"/console/statistics/{facts.month}.xlsx"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One page's times in milliseconds; ``status`` is not 200 (or 303) where it is not there."""

    name: str
    status: int
    first_ms: float
    p50_ms: float
    p95_ms: float
    most_ms: float
    bytes: int


def measure(settings: Settings, environment: Mapping[str, str], rounds: int, only: str = "") -> dict[str, object]:
    """Every visit, or those with ``only`` in their name, with a server of its own."""
    bus = open_bus(settings)
    try:
        _person(bus)
        made = _make_months(bus)
        facts = _facts(bus)
    finally:
        bus.close()
    port = free_port()
    command = [sys.executable, "-m", "bus.web.server"]
    with start_server("serve", command, port=port, environment={**environment, "LGSP_PORT": str(port)}) as server:
        browser = _Browser(server)
        browser.sign_in()
        found = [browser.measure(visit, facts, rounds) for visit in VISITS if only in visit.name]
        live = {} if only else browser.cost_of_pages(("/console/", "/console/map", "/console/alerts"))
    return {
        "messages": len(facts.messages),
        "months_made_seconds": made,
        "pages": [{name: getattr(one, name) for name in Found.__dataclass_fields__} for one in found],
        "core_percent_of_an_open_page": live,
    }


def _person(bus: Bus) -> None:
    people = People(bus.store, bus.secrets)
    if people.find(_NAME) is None:
        people.add(_NAME, display_name="Đo tốc độ", roles=tuple(PersonRole), now=utc_now(), by="benchmark")
    event = AuditEvent(at=utc_now(), person="benchmark", action="password.chosen", target=f"person:{_NAME}")
    people.change(_NAME, event, password_hash=hash_secret(_PASSWORD), must_change=0)


def _make_months(bus: Bus) -> dict[str, float]:
    """What the worker does: month → the seconds that it took."""
    keeper, made = MonthKeeper(bus), {}
    while (month := keeper.run_once(utc_now())) is not None:
        made[month] = round(Figures(bus.store).months()[month].took.total_seconds(), 1)
    return made


def _facts(bus: Bus) -> Facts:
    """Some hundred messages and dossiers from all over the store."""
    chance = random.Random(7)
    with bus.store.reading() as connection:
        last = connection.execute(select(func.max(exchanges.c.id))).scalar() or 0
        messages, places, traces, dossiers = [], [], [], []
        for _ in range(300):
            row = connection.execute(
                select(exchanges.c.id, exchanges.c.message_id, exchanges.c.dossier, exchanges.c.traceparent)
                .where(exchanges.c.id >= chance.randrange(last + 1))
                .order_by(exchanges.c.id)
                .limit(1)
            ).one()
            messages.append(MessageId(row.message_id))
            places.append(row.id)
            traces.append(row.traceparent[3:35])
            dossiers += [row.dossier] if row.dossier else []
    agencies = [code for code in bus.directory.current().agencies if "." in code]
    month = month_of(utc_now())
    return Facts(messages=messages, places=places, traces=traces, dossiers=dossiers, agencies=agencies, month=month)


class _Browser:
    """One signed-in person over one kept connection."""

    def __init__(self, server: Running) -> None:
        self._server = server
        self._pool = urllib3.PoolManager(retries=False, timeout=120)
        self._headers: dict[str, str] = {}
        self._form_key = ""
        self._chance = random.Random(5)

    def sign_in(self) -> None:
        answer = self._ask("/console/sign-in", {"name": _NAME, "password": _PASSWORD})
        if answer.status != 303:
            raise RuntimeError(f"signing in was answered {answer.status}")
        self._headers["Cookie"] = answer.headers["Set-Cookie"].partition(";")[0]
        key = _FORM_KEY.search(self._ask("/console/account").data.decode())
        self._form_key = key[1] if key else ""

    def measure(self, visit: Visit, facts: Facts, rounds: int) -> Found:
        took, answer = [], None
        for _ in range(rounds):
            path = visit.path(facts, self._chance)
            form = None if visit.form is None else {**visit.form(facts, self._chance), "form_key": self._form_key}
            started = time.perf_counter()
            answer = self._ask(path, form)
            took.append(1000 * (time.perf_counter() - started))
            if answer.status not in (200, 303):
                break
        ordered = sorted(took)
        return Found(
            name=visit.name,
            status=answer.status if answer else 0,
            first_ms=round(took[0], 1),
            p50_ms=round(ordered[len(ordered) // 2], 1),
            p95_ms=round(ordered[int(len(ordered) * 0.95)], 1) if len(ordered) > 1 else round(took[0], 1),
            most_ms=round(ordered[-1], 1),
            bytes=len(answer.data) if answer else 0,
        )

    def cost_of_pages(self, paths: Sequence[str], seconds: float = 60.0) -> dict[str, float]:
        """Percent of a core that one open page takes which renews its part as it says."""
        idle = self._cpu(lambda: time.sleep(seconds))
        return {path: self._cost_of(path, seconds, idle) for path in paths}

    def _cost_of(self, path: str, seconds: float, idle: float) -> float:
        renewed = _PART.search(self._ask(path).data.decode())
        assert renewed is not None, f"{path} renews nothing"
        part, every = html.unescape(renewed[1]), int(renewed[2])

        def watch() -> None:
            ends, tag = time.monotonic() + seconds, ""
            while time.monotonic() < ends:
                said = self._ask(part, headers={"Lgsp-Part": "live", "If-None-Match": tag})
                tag = said.headers.get("ETag", tag)
                time.sleep(every)

        return round(100 * max(0.0, self._cpu(watch) - idle) / seconds, 3)

    def _cpu(self, do: Callable[[], None]) -> float:
        before = sample(self._server.pids).cpu_seconds
        do()
        return sample(self._server.pids).cpu_seconds - before

    def _ask(
        self, path: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        asked = {**self._headers, **(headers or {})}
        body = None
        if form is not None:
            asked["Content-Type"], body = "application/x-www-form-urlencoded", urlencode(form)
        method = "GET" if form is None else "POST"
        return self._pool.request(method, self._server.url + path, body=body, headers=asked, redirect=False)


def table(result: Mapping[str, object]) -> list[str]:
    """The findings as Markdown."""
    lines = ["| page | first, ms | p50 | p95 | at most | KB | goal |", "|---|---|---|---|---|---|---|"]
    pages = result["pages"]
    assert isinstance(pages, list)
    for page in pages:
        if page["status"] not in (200, 303):
            lines.append(f"| {page['name']} | not there ({page['status']}) | | | | | |")
            continue
        kept = "reached" if page["p95_ms"] <= GOAL_MS else "**not reached**"
        times = " | ".join(f"{page[name]:.0f}" for name in ("first_ms", "p50_ms", "p95_ms", "most_ms"))
        lines.append(f"| {page['name']} | {times} | {page['bytes'] / 1000:.0f} | {kept} |")
    lines.append("")
    lines.append(f"Months added up, seconds: {result['months_made_seconds']}.")
    lines.append(f"Open pages, percent of a core each: {result['core_percent_of_an_open_page']}.")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console_speed", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--store-url", default="")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--only", default="", metavar="TEXT", help="visits with this in their name")
    parser.add_argument("--json", type=Path, help="write the result there, too")
    options = parser.parse_args(arguments)
    environment = {"LGSP_HOME": str(options.home), "LGSP_SERVE_PROCESSES": "1"}
    if options.store_url:
        environment["LGSP_STORE_URL"] = options.store_url
    result = measure(load_settings(environ=environment), environment, options.rounds, options.only)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    print("\n".join(table(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
