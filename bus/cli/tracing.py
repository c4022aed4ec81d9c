"""``lgsp trace``: the story of a message or a dossier, for the person whom somebody has just called about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import click
from rich.text import Text
from rich.tree import Tree

from bus.assembly import Bus
from bus.cli import REFUSED, fail
from bus.cli.opened import opened_bus
from bus.cli.processes import process_tree
from bus.cli.terminal import console, in_words, local, print_json, printable, session_of, span
from bus.dossiers import DossierStory, Step, Timeliness, status_name, story_of
from bus.processes.journal import Journal, ProcessRecord
from bus.processes.story import process_document
from bus.records import AttemptRecord, DeliveryRecord, ExchangeRecord, RefusalRecord, ReplayRecord, State
from bus.trace import dossier_document, overall_state, status_document
from registry.model import Pattern
from schemas.identifiers import DossierCode, MessageId
from schemas.moment import to_wire, utc_now
from schemas.problem import Language, Malformed
from schemas.text import in_thousands

_COLOURS = {"delivered": "green", "dead": "red", "refused": "red"}


@click.command()
@click.argument("code")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def trace(context: click.Context, code: str, as_json: bool) -> None:
    """Tell what became of CODE: a message id, or a dossier code with all its messages across agencies.

    A dossier is told under any of its codes: where it stands, who has it and since when, its due date, payments and
    post, as far as the messages said so and their services have a dossier view. A status out of turn has a mark (!).
    Times are Vietnam's. Exit code 1 when the bus knows nothing of it.

    \b
    Examples:
      lgsp trace 0193a5b0-7e2e-7c3f-9b1d-2f4c8e6a0d11
      lgsp trace H99.15-260423-0001 --json
    """
    session = session_of(context)
    code = code.strip()
    message_id, dossier = _read(code)
    with opened_bus(session) as bus:
        told = None
        found = bus.ledger.find(message_id) if message_id else None
        records = [found] if found else []
        if message_id is None:
            codes = bus.ledger.codes_of_dossier(code)
            records, events = bus.ledger.of_dossier(*codes), bus.ledger.said_of_dossier(*codes)
            told = story_of(codes, events, utc_now())
        refusals = bus.ledger.refusals_of(message_id=message_id, dossier=dossier) if message_id or dossier else []
        if not records and not refusals:
            if not message_id and not dossier:
                fail("This is neither a message id (a UUID) nor a dossier code (as in H99.15-260423-0001).", REFUSED)
            fail("The bus has neither taken nor refused anything under this code.")
        flows = Journal(bus.store).of_dossier(dossier) if dossier else []
        if as_json:
            print_json(_document(told, records, refusals) | {"processes": list(map(process_document, flows))})
        else:
            console().print(_Story(bus, session.language).told(code, told, records, refusals, flows))


def _read(code: str) -> tuple[MessageId | None, DossierCode | None]:
    try:
        return MessageId(code), None
    except Malformed:
        pass
    try:
        return None, DossierCode(code)
    except Malformed:
        return None, None  # perhaps another code of a dossier (MaHoSoKhac), which has no form


def _document(
    told: DossierStory | None, records: Sequence[ExchangeRecord], refusals: Sequence[RefusalRecord]
) -> dict[str, Any]:
    messages = {"messages": [status_document(record) for record in records]}
    return (dossier_document(told, records, utc_now()) if told else messages) | {
        "refusals": [
            {
                "at": to_wire(refusal.refused_at),
                "problem": refusal.problem,
                "reason": refusal.reason,
                "sender": refusal.sender,
                "service": refusal.service,
                "message_id": refusal.message_id,
                "trace_id": refusal.trace_id,
            }
            for refusal in refusals
        ],
    }


def _step(step: Step) -> str:
    """``2``; ``5!`` where it came out of turn; ``‘cho’`` where it is in no list."""
    return f"{step.status}{'' if step.legal else '!'}" if step.status else f"‘{step.said}’"


def _waiting(due_at: datetime | None, tries: str) -> str:
    if due_at is None:
        return "waits for an earlier message of its dossier"
    if due_at <= utc_now():
        return f"waits to be delivered or fetched since {local(due_at)}, {tries}"
    return f"next try at {local(due_at)}, {tries} so far"


class _Story:
    """Writes a tree: message, receiver, attempt. Names of agencies come from the registry of today."""

    def __init__(self, bus: Bus, language: Language) -> None:
        self._directory = bus.directory.current()
        self._language = language

    def told(
        self,
        code: str,
        dossier: DossierStory | None,
        records: Sequence[ExchangeRecord],
        refusals: Sequence[RefusalRecord],
        flows: Sequence[ProcessRecord] = (),
    ) -> Tree:
        counted = f"{len(records)} message{'' if len(records) == 1 else 's'}"
        tree = Tree(Text(f"{code}: {counted}, {len(refusals)} refused", style="bold"))
        for line in self._dossier(dossier, code) if dossier else ():
            tree.add(line)
        parts = [(record.received_at, self._message(record)) for record in records]
        parts += [(refusal.refused_at, self._refusal(refusal)) for refusal in refusals]
        parts += [(flow.started_at, process_tree(flow, self._language)) for flow in flows]
        for _, part in sorted(parts, key=lambda part: part[0]):
            tree.add(part)
        return tree

    def _dossier(self, dossier: DossierStory, code: str) -> Iterator[Text]:
        """What the messages said, a line for each thing that was said."""
        others = [other for other in dossier.codes if other != code]
        if others:
            yield Text(f"also {', '.join(others)}")
        if dossier.status:
            since = local(dossier.status_since)
            yield Text(f"status {dossier.status} {status_name(dossier.status)} since {since}", style="bold")
        if len(dossier.steps) > 1:
            yield Text("statuses ").append(" → ".join(map(_step, dossier.steps)))
        if dossier.holder:
            held = span(utc_now() - dossier.holder_since) if dossier.holder_since else ""
            yield Text(f"held by {self._named(dossier.holder)} for {held}, since {local(dossier.holder_since)}")
        moments = (("came in", dossier.received_at), ("due", dossier.due_at), ("finished", dossier.finished_at))
        said = [f"{what} {local(moment)}" for what, moment in moments if moment]
        if said:
            late = dossier.timeliness in (Timeliness.LATE, Timeliness.OVERDUE)
            line = Text(", ".join(said) + ": ")
            yield line.append(dossier.timeliness.value.replace("-", " "), style="red" if late else "green")
        for payment in dossier.payments:
            amount = "" if payment.amount is None else f" {in_thousands(payment.amount)} đồng"
            yield Text(f"payment {payment.reference or ''}{amount}: {payment.state or 'unknown'}, {local(payment.at)}")
        for parcel in dossier.parcels:
            yield Text(f"post {parcel.code}: {parcel.state or 'sent'}, {local(parcel.at)}")

    def _message(self, record: ExchangeRecord) -> Tree:
        state = overall_state(record)
        head = Text(f"{local(record.received_at)}  {record.service}/{record.service_version} from ")
        head.append(f"{self._named(record.sender)}: ").append(state, style=_COLOURS.get(state, "yellow"))
        tree = Tree(head)
        facts = [f"message {record.message_id}", record.grade.value, f"by {record.sender_system}"]
        facts += [f"dossier {record.dossier}"] if record.dossier else []
        tree.add(Text(f"{', '.join(facts)}, trace {record.traceparent[3:35]}", style="dim"))
        if record.body_erased:
            tree.add(Text("its body was erased: older than the bus keeps bodies; the proof stands", style="dim"))
        for delivery in record.deliveries:
            tree.add(self._delivery(record, delivery))
        return tree

    def _delivery(self, record: ExchangeRecord, delivery: DeliveryRecord) -> Tree:
        head = Text(f"to {self._named(delivery.receiver)} ({delivery.system}): ")
        tree = Tree(head.append(self._standing(record, delivery), style=_COLOURS.get(delivery.state, "yellow")))
        steps: list[tuple[int, int, Text]] = [(each.number, 0, self._attempt(each)) for each in delivery.attempts]
        steps += [(each.after_attempt, 1, self._replay(each)) for each in delivery.replays]
        for _, _, line in sorted(steps, key=lambda step: step[:2]):
            tree.add(line)
        if delivery.problem and not any(each.problem for each in delivery.attempts):
            tree.add(Text(in_words(delivery.problem, self._language), style="red"))
        return tree

    def _standing(self, record: ExchangeRecord, delivery: DeliveryRecord) -> str:
        tries = f"{delivery.attempt} attempt{'' if delivery.attempt == 1 else 's'}"
        match delivery.state:
            case State.DELIVERED:
                since = span((delivery.settled_at or record.received_at) - record.received_at)
                return f"delivered after {since}, {tries}"
            case State.DELIVERING:
                return f"under way, attempt {delivery.attempt}, until {local(delivery.lease_until)} at the latest"
            case State.WAITING:
                return _waiting(delivery.due_at, tries)
        if delivery.state is State.SET_ASIDE:
            return f"dead since {local(delivery.settled_at)}, {tries}; set aside in the console"
        hint = "" if record.pattern is Pattern.REQUEST_REPLY else f"; lgsp replay {record.message_id} --because …"
        return f"dead since {local(delivery.settled_at)}, {tries}{hint}"

    def _attempt(self, attempt: AttemptRecord) -> Text:
        ended = {State.DELIVERED: "delivered", State.WAITING: "again later", State.DEAD: "given up"}[attempt.outcome]
        took = span(attempt.finished_at - attempt.started_at)
        words = f": {in_words(attempt.problem, self._language)}" if attempt.problem else ""
        line = f"{local(attempt.finished_at)}  attempt {attempt.number}, {took}: {ended}{words}"
        return Text(line, style="" if attempt.outcome is State.DELIVERED else _COLOURS.get(attempt.outcome, "yellow"))

    def _replay(self, replay: ReplayRecord) -> Text:
        words = printable(replay.reason)
        return Text(f"{local(replay.ordered_at)}  replay {replay.id} ordered by {replay.actor}: {words}", style="cyan")

    def _refusal(self, refusal: RefusalRecord) -> Tree:
        sender = self._named(refusal.sender) if refusal.sender else "a caller who was not identified"
        head = Text(f"{local(refusal.refused_at)}  {refusal.service or 'a message'} from {sender}: ")
        tree = Tree(head.append("refused", style="red"))
        tree.add(Text(in_words({"reason": refusal.reason}, self._language)))
        tree.add(Text(f"{refusal.problem}, {refusal.reason}, trace {refusal.trace_id}", style="dim"))
        return tree

    def _named(self, code: str) -> str:
        agency = self._directory.agency(code)
        return f"{code} {printable(agency.name)}" if agency else code
