"""Where the time of one message goes: processor microseconds of each step, alone and warm, in this very process.

In a busy server the same steps cost up to twice as much (cold caches, two hyperthreads of one core); their proportions
stay. The steps run on the real classes over a real store in a temporary folder.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.bus import RECEIVER, SENDER, SERVICE, make_home
from benchmarks.dossiers import make_dossiers, signed_requests
from bus.assembly import Bus, open_bus
from bus.logs import no_logs
from bus.records import Claim, NewExchange, Settlement, State
from registry.model import Pattern
from schemas.codec import read_json
from schemas.identifiers import SystemCode
from schemas.message import Envelope, Manifest
from schemas.moment import utc_now
from security.signing import split_compact

_MESSAGES = 480
_ROUNDS = 3
_RECEIVING = SystemCode(f"{RECEIVER}/kho")
_LEASE = timedelta(minutes=1)


def measure_steps() -> dict[str, float]:
    """Step → processor microseconds a message."""
    no_logs()
    with tempfile.TemporaryDirectory(prefix="lgsp-steps-") as home:
        settings, key = make_home(Path(home), "http://127.0.0.1:9")
        bus = open_bus(settings)
        try:
            requests = signed_requests(
                make_dossiers(_MESSAGES), key, sender=SENDER, receivers=[RECEIVER], service=SERVICE
            )
            return _steps(bus, [_envelope(request) for request in requests])
        finally:
            bus.close()


def _steps(bus: Bus, envelopes: Sequence[Envelope]) -> dict[str, float]:
    intake = bus.intake
    messages = [intake._identify(envelope) for envelope in envelopes]
    permission = intake._authorise(messages[0])
    service = permission.service
    steps = {
        "2 identify (one P-256 verification)": _each(intake._identify, envelopes),
        "3 authorise": _each(intake._authorise, messages),
        "4 validate (strict JSON, schema)": _each(lambda m: intake._validate(m, service, ()), messages),
        "5 evidence and receipt (one signature)": _each(lambda m: bus.evidence.accepted(m, utc_now()), messages),
    }
    news = []
    for message in messages:
        receipt, leaf = bus.evidence.accepted(message, utc_now())
        news.append(
            NewExchange(
                message=message,
                pattern=Pattern.ONE_WAY,
                receipt=receipt,
                leaf=leaf,
                routes=((RECEIVER, _RECEIVING),),
                ordering_key=message.manifest.dossier,
            )
        )
    half = _MESSAGES // 2
    steps["5 record, 16 in a group"] = _in_groups(bus.ledger._write, news[:half], 16)
    steps["5 record, one by one"] = _in_groups(bus.ledger._write, news[half:], 1)
    steps |= _delivery_steps(bus)
    return steps


def _delivery_steps(bus: Bus) -> dict[str, float]:
    claims: list[Claim] = []
    times: dict[str, float] = {}
    for group in (16, 1):
        settled: list[Settlement] = []
        start, before = time.process_time(), len(claims)
        while len(claims) - before < _MESSAGES // 2:
            now = utc_now()
            bus.ledger.systems_due(now)
            taken = bus.ledger.settle_and_claim(settled, {_RECEIVING: group}, now, _LEASE)
            settled = [_delivered(claim) for claim in taken]
            claims += taken
        times[f"6 to 8 claim and settle, {'16 in a group' if group == 16 else 'one by one'}"] = (
            (time.process_time() - start) / (len(claims) - before) * 1e6
        )
    times["7 read the manifest again"] = _each(
        lambda c: Manifest.from_claims(read_json(split_compact(c.manifest_jws).payload)), claims
    )
    times["8 evidence and receipt (one signature)"] = _each(
        lambda c: bus.evidence.delivered(c, utc_now(), b"{}"), claims
    )
    return times


def _delivered(claim: Claim) -> Settlement:
    now = utc_now()
    return Settlement(
        delivery_id=claim.delivery_id, attempt=claim.attempt, state=State.DELIVERED, started_at=now, finished_at=now
    )


def _envelope(request: bytes) -> Envelope:
    head, _, body = request.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode("ascii").split("\r\n")[1:])
    return Envelope(
        body=body,
        content_type=headers["Content-Type"],
        headers={"lgsp-manifest": headers["Lgsp-Manifest"]},
        received_at=utc_now(),
        traceparent=f"00-{'a' * 32}-{'b' * 16}-01",
    )


def _each(step: Callable[[Any], object], values: Sequence[Any]) -> float:
    """The best round of a few, so that what else the machine does counts least."""
    best = float("inf")
    for _ in range(_ROUNDS):
        start = time.process_time()
        for value in values:
            step(value)
        best = min(best, (time.process_time() - start) / len(values) * 1e6)
    return best


def _in_groups(write: Callable[[Sequence[Any]], object], works: Sequence[Any], size: int) -> float:
    start = time.process_time()
    for at in range(0, len(works), size):
        write(works[at : at + size])
    return (time.process_time() - start) / len(works) * 1e6


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        for name, microseconds in measure_steps().items():
            print(f"{microseconds:8.1f} µs  {name}")
