"""The failure matrix: break everything once, in both modes, and count what became of every message.

::

    make faults                                        all of it, about half an hour
    make faults ARGS="--only rabbitmq-killed"          one row; several: --only a,b; all that begin so: --only 'work-*'
    make faults ARGS="--list"

Writes ``docs/failure-matrix.csv`` (a row that is run again replaces its former self) and, from it,
``docs/failure-matrix.md``. Ends with 1 when anything was lost, doubled or not proven.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from benchmarks.faults_rows import COMPRESSED, EMBEDDED, PRODUCTION, ROWS, Row, Scene
from benchmarks.faults_servers import Servers, Skipped
from benchmarks.faults_stand import LEASE_SECONDS, Outcome
from benchmarks.processes import ROOT
from bus.logs import configure_logs

MESSAGES: Final = 240
CSV: Final = ROOT / "docs" / "failure-matrix.csv"
_HEAD: Final = Path(__file__).with_name("faults_page.md.template")
PAGE: Final = ROOT / "docs" / "failure-matrix.md"
_COLUMNS: Final = (
    "row", "mode", "fault", "result", "accepted", "once", "twice", "lost", "arrivals", "replayed", "dead",
    "recovered_s", "slowest_s", "repeats", "complaints", "took_s", "load", "measured",
)  # fmt: skip
Record = dict[str, str]


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    chosen = [(row, mode) for row in ROWS for mode in row.modes if _is_chosen(row, mode, options)]
    if options.list:
        for row, mode in chosen:
            print(f"{row.name:32} {mode:11} {row.title}")
        return 0
    configure_logs("critical")
    with tempfile.TemporaryDirectory(prefix="lgsp-faults-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o711)  # noqa: S103 - only to be passed through, by the user that PostgreSQL runs as
        records = list(_play_all(chosen, Path(folder), options.messages))
    if not options.dry:
        _keep(records)
    bad = [record for record in records if record["result"] == "broken"]
    print(f"{len(records)} rows, {len(bad)} of them broken")
    return 1 if bad else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", help="rows by name, comma-separated; * stands for anything")
    parser.add_argument("--mode", default="*", help="embedded or production")
    parser.add_argument("--messages", type=int, default=MESSAGES, help=f"messages of a row ({MESSAGES})")
    parser.add_argument("--dry", action="store_true", help="write no report")
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    return parser.parse_args(arguments)


def _is_chosen(row: Row, mode: str, options: argparse.Namespace) -> bool:
    return fnmatch(mode, options.mode) and any(fnmatch(row.name, name) for name in options.only.split(","))


def _play_all(chosen: Iterable[tuple[Row, str]], folder: Path, messages: int) -> Iterator[Record]:
    servers = Servers(folder / "servers")
    try:
        for row, mode in chosen:
            scene = Scene(folder=folder / f"{row.name}-{mode}", mode=mode, servers=servers, messages=messages)
            record = play(row, scene)
            print(
                f"{record['row']:32} {mode:11} {record['result']:8} "
                f"{record['accepted']:>5} accepted {record['once']:>5} once {record['twice']:>3} twice "
                f"{record['lost']:>3} lost {record['arrivals']:>5} arrivals, again after {record['recovered_s']} s, "
                f"slowest {record['slowest_s']} s, row {record['took_s']} s "
                f"{record['repeats']} {record['complaints'][:300]}",
                flush=True,
            )
            yield record
    finally:
        servers.stop()


def play(row: Row, scene: Scene) -> Record:
    """One row: what was measured, or why not (``skipped``); ``broken`` says that something is wrong, ``whole`` not."""
    begun = time.monotonic()
    record = dict.fromkeys(_COLUMNS, "") | {"row": row.name, "mode": scene.mode, "fault": row.title}
    record["measured"] = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    try:
        record |= _facts(row.play(scene))
    except Skipped as reason:
        record |= {"result": "skipped", "complaints": str(reason)}
    except Exception as error:
        record |= {"result": "broken", "complaints": f"{type(error).__name__}: {error}"}
    record["took_s"] = f"{time.monotonic() - begun:.0f}"
    record["load"] = f"{os.getloadavg()[0]:.1f}"
    return record


def _facts(outcome: Outcome) -> Record:
    return {
        "result": "whole" if outcome.is_whole else "broken",
        **{name: str(getattr(outcome, name)) for name in ("accepted", "once", "twice", "lost", "arrivals", "replayed")},
        "dead": str(outcome.dead),
        "recovered_s": f"{outcome.recovered_seconds:.2f}",
        "slowest_s": f"{outcome.slowest_seconds:.2f}",
        "repeats": json.dumps(outcome.repeats, sort_keys=True) if outcome.repeats else "",
        "complaints": "; ".join(outcome.complaints),
    }


def read_table() -> list[Record]:
    """What was measured last, row by row."""
    if not CSV.exists():
        return []
    with CSV.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _keep(records: Sequence[Record]) -> None:
    """Into the table, each in the place of its former self, and the page from it."""
    known = {(record["row"], record["mode"]): record for record in (*read_table(), *records)}
    ordered = [known[row.name, mode] for row in ROWS for mode in row.modes if (row.name, mode) in known]
    with CSV.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(ordered)
    PAGE.write_text(page(ordered), encoding="utf-8")


def page(records: Sequence[Record]) -> str:
    """The page that is made from the table."""
    played = [record for record in records if record["result"] != "skipped"]
    skipped = [record for record in records if record["result"] == "skipped"]
    days = sorted({record["measured"][:10] for record in records})
    text = _HEAD.read_text(encoding="utf-8").format(
        days=" to ".join(dict.fromkeys([days[0], days[-1]])) if days else "never",
        cores=os.cpu_count(),
        load="–".join(f"{find(float(each['load']) for each in played):.0f}" for find in (min, max)) if played else "?",
        accepted=_total(played, "accepted"),
        arrivals=_total(played, "arrivals"),
        lost=_total(played, "lost"),
        twice=_total(played, "twice"),
        broken=sum(record["result"] == "broken" for record in played),
        rows=len(played),
        lease=f"{LEASE_SECONDS:.0f}",
        compressed=COMPRESSED,
    )
    for mode in (EMBEDDED, PRODUCTION):
        text += f"\n## {_TITLES[mode]}\n\n{_TABLE_HEAD}" + "".join(
            _line(each) for each in played if each["mode"] == mode
        )
    text += "\n## Not played\n\n" + "".join(
        f"- {each['fault']} ({each['mode']}): {each['complaints']}.\n" for each in skipped
    )
    broken = [record for record in played if record["result"] == "broken"]
    if broken:
        text += "\n## Broken\n\n" + "".join(
            f"- {each['row']} ({each['mode']}): {each['complaints'][:400]}\n" for each in broken
        )
    return text


def _line(record: Record) -> str:
    again = f"{record['dead']} dead" if record["dead"] not in ("", "0") else ""
    again += f"{', ' if again else ''}{record['replayed']} replayed" if record["replayed"] not in ("", "0") else ""
    cells = (
        record["fault"], record["accepted"], record["once"], record["twice"], record["lost"], record["arrivals"], again,
        "yes" if record["result"] == "whole" else "**no**", record["recovered_s"], record["slowest_s"],
    )  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def _total(records: Sequence[Record], column: str) -> str:
    return f"{sum(int(record[column] or 0) for record in records):,}"


_TITLES: Final = {
    EMBEDDED: "Embedded: SQLite, one serve, one work",
    PRODUCTION: "Production: PostgreSQL, three RabbitMQ nodes, two serve, two work",
}
_TABLE_HEAD: Final = """\
| Fault | Accepted | Once | Twice | Lost | Arrivals | Dead letters | Proven | Again after s | Slowest s |
|---|--:|--:|--:|--:|--:|---|---|--:|--:|
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
