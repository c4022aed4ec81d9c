"""Measured costs carried to the size of a country: how many nodes, queues and parts, how much disk, and where it ends.

::

    python -m benchmarks.national bench-results/…/summary.json     # of `lgsp bench --production`

A model, not a measurement: what one message costs each role is taken from the summary, everything else is the plain
arithmetic below with its assumptions named. Volumes are those that the country has published (vietnam.md 5.5).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.production import PRODUCTION

#: Of a day's messages in its busiest hour, Monday from eight: observed days are 8 to 10 hours long with a peak of
#: about twice their average.
PEAK_HOUR_SHARE = 0.20
#: How busy a machine may be on average in that hour, so that queues stay short.
BUSY = 0.5
CORES_OF_A_NODE = 4
#: Store, its write-ahead log and one standby; backups are apart.
COPIES = 2
#: What a message weighs in the store, bodies and evidence and indexes together (`lgsp bench --dossiers`).
BYTES_OF_A_MESSAGE = 5_800
#: Tables in parts by month.
PARTED_TABLES = 4
WORKING_DAYS = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Who runs a bus, and what passes through it."""

    name: str
    messages_a_day: int
    #: Systems that messages are delivered to: a queue each.
    receivers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a place needs."""

    place: Place
    peak_per_second: float
    cores: Mapping[str, float]
    nodes: int
    gigabytes_a_year: float
    #: How much of what one store takes is used in the busiest hour; above 1 it does not fit.
    store_share: float


PLACES = (
    Place(name="a small province", messages_a_day=15_000, receivers=150),
    Place(name="a large city (13,000 dossiers a day)", messages_a_day=150_000, receivers=700),
    Place(name="the country by provinces: one of 34", messages_a_day=1_500_000 // 34, receivers=3_321 // 34 + 60),
    Place(name="the country on one bus (1.5 million a day)", messages_a_day=1_500_000, receivers=3_321 + 34 * 60),
    Place(name="the country on one bus, a day of ten times that", messages_a_day=15_000_000, receivers=3_321 + 34 * 60),
)


def need_of(place: Place, cpu_us: Mapping[str, float], most_per_second: float) -> Need:
    """``cpu_us``: microseconds of each role for one message; ``most_per_second``: what one store was seen to take."""
    peak = place.messages_a_day * PEAK_HOUR_SHARE / 3600
    cores = {role: peak * used / 1e6 / BUSY for role, used in cpu_us.items()}
    return Need(
        place=place,
        peak_per_second=peak,
        cores=cores,
        # Two at least: one may always be down.
        nodes=max(2, math.ceil((cores.get("serve", 0) + cores.get("work", 0)) / CORES_OF_A_NODE)),
        gigabytes_a_year=place.messages_a_day * WORKING_DAYS * BYTES_OF_A_MESSAGE * COPIES / 1e9,
        store_share=peak / most_per_second,
    )


def read_costs(summary: Path) -> tuple[dict[str, float], float]:
    """Microseconds of each role and the highest rate, from the production run of a summary. Raises KeyError."""
    findings = {one["name"]: one for one in json.loads(summary.read_text(encoding="utf-8"))["findings"]}
    production = findings[PRODUCTION]
    return production["cpu_us_by_role"], production["delivered_per_second"]


def table(needs: Sequence[Need], most_per_second: float) -> list[str]:
    """The findings as Markdown."""
    lines = [
        f"One store with its log took {most_per_second:.0f} messages a second, all on one machine of two cores.",
        "",
        "| | messages a day | at peak, /s | serve + work nodes of 4 cores | cores of store, broker | queues |"
        " parts a year | disk a year, with a standby | of one store's limit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for need in needs:
        servers = ", ".join(f"{need.cores.get(role, 0):.1f}" for role in ("store", "broker"))
        lines.append(
            f"| {need.place.name} | {need.place.messages_a_day:,} | {need.peak_per_second:.1f} | {need.nodes} | "
            f"{servers} | {need.place.receivers} | {12 * PARTED_TABLES} | {need.gigabytes_a_year:,.0f} GB | "
            f"{need.store_share:.0%} |"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.national", description=__doc__)
    parser.add_argument("summary", type=Path, help="summary.json of lgsp bench --production")
    options = parser.parse_args(arguments)
    try:
        costs, most = read_costs(options.summary)
    except (OSError, ValueError, KeyError) as error:
        parser.error(f"{options.summary} is no summary of a production run ({type(error).__name__})")
    print("\n".join(table([need_of(place, costs, most) for place in PLACES], most)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
