"""The ledger: what was accepted, who must get it, how far that is.

States of a delivery, one per receiver; every move is an UPDATE that names from and to::

    waiting ──claim──▶ delivering ──settle──▶ delivered
       ▲                  │    └────settle──▶ dead ──replay──┐    dead ──set aside──▶ set-aside
       └──again later─────┘                                  │         ◀──take back──
       └─────────────────────────────────────────────────────┘

A delivery that is *waiting* has an outbox row that says when it is due, unless it waits for an earlier message of its
dossier (``ordering: dossier``); then it gets one when that message is settled. A claim takes the row away and writes a
lease and an attempt number; a settlement carries that number, and one that comes too late is ignored.

All writing goes through a group commit (:mod:`bus.commit`): a method that writes returns only after the flush.
Thread-safe; several processes may share one store. How it finds and tells: :mod:`bus.search`, :mod:`bus.telling`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Connection,
    Dialect,
    Executable,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
    update,
)

from bus import telling
from bus.commit import GroupCommit
from bus.postgresql import CHANNEL
from bus.records import (
    Carried,
    Claim,
    DeadRecord,
    DossierEvent,
    ExchangeRecord,
    FoundMessage,
    FoundPage,
    Leaf,
    LedgerWork,
    NewExchange,
    ProofUse,
    QueueRecord,
    Recorded,
    Reference,
    Refusal,
    RefusalRecord,
    Settlement,
    State,
    StoredReply,
    Wanted,
)
from bus.search import search, search_page
from bus.store import OutcomeUnknown, Store, StoreUnreachable
from bus.tables import (
    FIRST_OF_REPLY,
    NEVER,
    UNFINISHED,
    attachments,
    attempts,
    counters,
    deliveries,
    delivery_id,
    dossier_aliases,
    dossier_events,
    exchange_attachments,
    exchange_of,
    exchanges,
    flow_hours,
    outbox,
    payloads,
    quota_usage,
    refusal_details,
    refusals,
    refused_messages,
    replayed,
    replays,
    replies,
    search_keys,
    used_proofs,
)
from registry.dossier_view import DossierFact
from registry.model import Pattern
from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode, SystemCode
from schemas.message import Receipt
from schemas.moment import from_micros, hour_of, to_micros, utc_now
from schemas.problem import IdempotencyConflict
from security.evidence import entries
from security.evidence.log import AppendTurn, EvidenceLog
from security.evidence.tree import leaf_hash
from security.statements import Prepared, together

W = TypeVar("W")
_Answer = Callable[[], list[tuple[Any, ...]]]


_NOWHERE: Mapping[int, int] = {}


class Ledger:
    """Records, claims, settles and tells. See the module's docstring for the states."""

    def __init__(self, store: Store, log: EvidenceLog, on_due: Callable[[], None] = lambda: None) -> None:
        """``on_due`` is called after a commit that made deliveries due, once a group: it wakes the deliverers."""
        self._store = store
        self._log = log
        self._on_due = on_due
        self._commits: GroupCommit[LedgerWork] = GroupCommit(self._write, of_all=(StoreUnreachable, OutcomeUnknown))
        self._statements = _Statements(store.engine.dialect)
        #: How long the latest group took, until the next one counts it: no transaction knows its own flush.
        self._commit_took: timedelta | None = None

    # ── step 5: record ────────────────────────────────────────────────────────────────────────────────────────────

    def record(self, new: NewExchange) -> Recorded:
        """Keep the message, its deliveries and its evidence leaf for good, all or nothing.

        The same message id with the same facts gives the first receipt again; with other facts it raises
        IdempotencyConflict. Returns after the flush.
        """
        recorded: Recorded = self._commits.submit(new)
        return recorded

    def refuse(self, refusal: Refusal) -> None:
        """Keep a refusal as evidence. Returns after the flush."""
        self._commits.submit(refusal)

    def settle(self, settlement: Settlement) -> bool:
        """Write how an attempt ended; False when the claim was no longer held (the settlement is ignored)."""
        held: bool = self._commits.submit(settlement)
        return held

    def use_proof(self, proof: bytes, expires_at: datetime) -> bool:
        """Note that something signed (by its SHA-256) has been used; False when it had been before, anywhere.

        Returns after the flush. Nothing that has expired need be kept, so its own checks must refuse it.
        """
        use = ProofUse(proof=proof.hex(), expires_at=expires_at, use=secrets.token_hex(8))
        first: bool = self._commits.submit(use)
        return first

    def _write(self, works: Sequence[LedgerWork]) -> Sequence[Any]:
        started = time.perf_counter()
        try:
            group = self._store.write(self._write_in, works)
        except OutcomeUnknown as unknown:
            group = self._find_out(works, unknown.result)
        self._commit_took = timedelta(seconds=time.perf_counter() - started)
        if any(isinstance(work, NewExchange) and work.lease_until is None for work in works):
            self._on_due()
        return group.answers(len(works))

    def _find_out(self, works: Sequence[LedgerWork], tried: _Group) -> _Group:
        """What became of a group whose commit broke. Nobody is told "recorded" before that is known: either it is
        found on disk, or it is not there and is written now. Raises OutcomeUnknown when the store stays away."""
        for pause_seconds in _FINDING_OUT_SECONDS:
            time.sleep(pause_seconds)
            try:
                return self._store.write(self._write_unless_there, works, tried)
            except StoreUnreachable:
                continue
            except OutcomeUnknown as unknown:
                tried = unknown.result
            except Exception as error:
                raise OutcomeUnknown from error
        raise OutcomeUnknown

    def _write_unless_there(self, connection: Connection, works: Sequence[LedgerWork], tried: _Group) -> _Group:
        self._take_turn(connection)  # whoever still commits what we asked for has ended when this returns
        return tried if self._is_there(connection, tried) else self._write_in(connection, works)

    def _is_there(self, connection: Connection, tried: _Group) -> bool:
        """One row of a transaction tells for all: each has a leaf, or the end of an attempt, or may be written
        again."""
        if tried.turn is not None and tried.turn.first is not None:
            return self._log.holds(connection, *tried.turn.first)
        if tried.ended is None:
            return False
        delivery, number = tried.ended
        query = select(literal(1)).where(attempts.c.delivery_id == delivery, attempts.c.number == number)
        return connection.execute(query).first() is not None

    def _write_in(self, connection: Connection, works: Sequence[LedgerWork]) -> _Group:
        """Two trips to the store, whatever the number of works: one to look and one to write.

        Writers that look before they write follow one another: two nodes may be given the same message id, or end the
        same attempt, at once. SQLite has one writer at a time; on PostgreSQL the head of the evidence log is the
        turnstile, which every one of them passes anyway. (Claims skip what others hold and need no turn.)
        """
        group = _Group(connection=connection)
        if not works:
            return group
        self._use_proofs(group, _of_type(works, ProofUse))
        if len(group.results) == len(works):
            return group
        news, settled = _of_type(works, NewExchange), _of_type(works, Settlement)
        with together(connection):
            group.turn = turn = self._log.take_turn(connection)
            known, busy = self._ask_recorded(connection, news), self._ask_keys_in_line(connection, news)
            held = self._ask_held(connection, settled)
            recorded, in_line, claims = known(), busy(), held()
        turn.wait()
        first_receipts = self._first_receipts(connection, recorded)
        with together(connection):
            self._record_all(group, news, first_receipts, in_line)
            self._refuse_all(group, _of_type(works, Refusal))
            self._settle_all(group, settled, claims)
            self._count(group, works)
        for step in group.afterwards:
            step()
        return group

    def _take_turn(self, connection: Connection) -> None:
        """As in :meth:`_write_in`, for what looks before it writes without being a work."""
        if not self._store.is_sqlite:
            self._log.lock(connection)

    def _use_proofs(self, group: _Group, uses: list[tuple[int, ProofUse]]) -> None:
        """The first use of a proof stays; whose it was, its row says, also where it is asked again after a commit that
        broke. In one order, or two nodes that are shown the same two proofs could wait for each other."""
        if not uses:
            return
        ordered = sorted((use.proof, use.use, to_micros(use.expires_at)) for _, use in uses)
        with together(group.connection):
            self._statements.use_proof.many(
                group.connection, [{"proof": proof, "use": use, "expires_at": end} for proof, use, end in ordered]
            )
            used = {"proofs": [use.proof for _, use in uses]}
            found: dict[str, str] = dict(self._statements.proofs_used.rows(group.connection, used))
        for index, use in uses:
            group.results[index] = found.get(use.proof) == use.use

    def _record_all(
        self,
        group: _Group,
        news: list[tuple[int, NewExchange]],
        known: Mapping[str, tuple[int, str, Receipt]],
        in_line: Iterable[tuple[Any, ...]],
    ) -> None:
        if not news:
            return
        results = group.results
        fresh: list[tuple[int, NewExchange]] = []
        first_of: dict[str, int] = {}
        for index, new in news:
            message_id = new.message.manifest.message_id
            if message_id in known:
                results[index] = _as_repeated(new, *known[message_id])
            elif message_id in first_of:
                continue  # the same id twice in one group: answered below from the first of them
            else:
                first_of[message_id] = index
                fresh.append((index, new))
        if fresh:
            self._insert_exchanges(group, fresh, {(key, system) for key, system in in_line})
        for index, new in news:
            if index not in results:
                first = results[first_of[new.message.manifest.message_id]]
                original = next(n for i, n in fresh if i == first_of[new.message.manifest.message_id])
                results[index] = _as_repeated(
                    new, first.exchange_id, original.message.manifest.facts_sha256(), first.receipt
                )

    def _insert_exchanges(
        self, group: _Group, fresh: list[tuple[int, NewExchange]], busy: set[tuple[str, str]]
    ) -> None:
        connection = group.connection
        first_position = group.append([(new.leaf.hash, new.leaf.entry) for _, new in fresh])
        exchange_rows, payload_rows, delivery_rows, outbox_rows, attachment_rows = [], [], [], [], []
        for offset, (_, new) in enumerate(fresh):
            exchange_id = first_position + offset
            exchange_rows.append(_exchange_row(exchange_id, new))
            payload_rows.append({"exchange_id": exchange_id, "body": new.message.body})
            for sha256 in dict.fromkeys(reference.sha256 for reference in new.message.manifest.attachments):
                attachment_rows.append({"exchange_id": exchange_id, "sha256": sha256})  # one file may have two names
            for number, (receiver, system) in enumerate(new.routes):
                row = _delivery_row(exchange_id, number, receiver, system, new)
                delivery_rows.append(row)
                if row["state"] is State.DELIVERING:
                    continue
                if new.ordering_key is not None:
                    if (new.ordering_key, system) in busy:
                        continue
                    busy.add((new.ordering_key, system))
                outbox_rows.append(_outbox_row(row["id"], system, new.message.received_at))
        self._statements.add_exchange.many(connection, exchange_rows)
        self._statements.add_payload.many(connection, payload_rows)
        self._statements.add_delivery.many(connection, delivery_rows)
        self._put_in_outbox(connection, outbox_rows)
        self._statements.add_exchange_attachment.many(connection, attachment_rows)
        self._add_search_keys(
            group, [(first_position + place, new.search_keys) for place, (_, new) in enumerate(fresh)]
        )
        said = [
            (first_position + offset, new.dossier_facts) for offset, (_, new) in enumerate(fresh) if new.dossier_facts
        ]
        if said:
            self._add_dossier_facts(group, said)
        used = self._use_quota(group, [new for _, new in fresh])
        for offset, (index, new) in enumerate(fresh):
            group.results[index] = Recorded(
                exchange_id=first_position + offset, receipt=new.receipt, quota_used=used if new.quota_periods else {}
            )

    def _add_search_keys(self, group: _Group, found_by: Sequence[tuple[int, Collection[int]]]) -> None:
        """In the order of the keys: the tree is gone through once."""
        rows = sorted((key, position) for position, keys in found_by for key in keys)
        self._statements.add_search_key.many(
            group.connection, [{"key": key, "position": position} for key, position in rows]
        )

    def _add_dossier_facts(
        self,
        group: _Group,
        said: Sequence[tuple[int, Sequence[DossierFact]]],
        first: int = 0,
        positions: Mapping[int, int] = _NOWHERE,
    ) -> None:
        """``positions``: of answers, by their exchange; a message stands where its exchange does."""
        self._statements.add_dossier_event.many(
            group.connection,
            [
                _dossier_row(exchange, number, fact, positions.get(exchange))
                for exchange, facts in said
                for number, fact in enumerate(facts, start=first)
            ],
        )
        for exchange, facts in said:
            for fact in facts:
                for alias in fact.aliases:
                    group.afterwards.append(partial(self._join_codes, group.connection, alias, fact.dossier, exchange))

    def _join_codes(self, connection: Connection, alias: str, code: str, exchange_id: int) -> None:
        """Two codes are one dossier from now on, and so is all that either was joined to. Said again, nothing."""
        root_of = dict(
            connection.execute(
                select(dossier_aliases.c.alias, dossier_aliases.c.dossier).where(
                    dossier_aliases.c.alias.in_([alias, code])
                )
            ).all()
        )
        root, other = root_of.get(code, code), root_of.get(alias, alias)
        if root == other:
            return
        connection.execute(update(dossier_aliases).where(dossier_aliases.c.dossier == other).values(dossier=root))
        connection.execute(insert(dossier_aliases).values(alias=other, dossier=root, exchange_id=exchange_id))

    def _ask_recorded(self, connection: Connection, news: Sequence[tuple[int, NewExchange]]) -> _Answer:
        ids = [new.message.manifest.message_id for _, new in news]
        return self._statements.find_recorded.ask(connection, {"message_ids": ids}) if ids else list

    def _ask_keys_in_line(self, connection: Connection, news: Sequence[tuple[int, NewExchange]]) -> _Answer:
        """The ordering keys and systems for which an earlier message is still on its way."""
        keys = {new.ordering_key for _, new in news if new.ordering_key is not None}
        return self._statements.keys_in_line.ask(connection, {"keys": keys}) if keys else list

    def _ask_held(self, connection: Connection, settled: Sequence[tuple[int, Settlement]]) -> _Answer:
        ids = [item.delivery_id for _, item in settled]
        return self._statements.held_claims.ask(connection, {"ids": ids}) if ids else list

    def _first_receipts(
        self, connection: Connection, rows: Sequence[tuple[Any, ...]]
    ) -> dict[str, tuple[int, str, Receipt]]:
        """Of messages that are here already, by message id: exchange, digest of the facts, and the first receipt."""
        if not rows:
            return {}
        receivers: dict[int, list[AgencyCode]] = defaultdict(list)
        for exchange_id, receiver in connection.execute(
            select(deliveries.c.exchange_id, deliveries.c.receiver)
            .where(deliveries.c.exchange_id.in_([row[0] for row in rows]))
            .order_by(deliveries.c.id)
        ):
            receivers[exchange_id].append(AgencyCode(receiver))
        return {
            message_id: (
                exchange_id,
                facts_sha256,
                Receipt(
                    message_id=MessageId(message_id),
                    state="accepted",
                    received_at=from_micros(received_at),
                    receivers=tuple(receivers[exchange_id]),
                    leaf=leaf_hash(self._log.entry(connection, exchange_id) or b"").hex(),
                    receipt=receipt,
                ),
            )
            for exchange_id, message_id, facts_sha256, receipt, received_at in rows
        }

    def _use_quota(self, group: _Group, news: Sequence[NewExchange]) -> Mapping[tuple[str, str], int]:
        """Count these messages; what is returned holds the totals once the store has answered."""
        uses: dict[tuple[str, str], int] = defaultdict(int)
        for new in news:
            for period in new.quota_periods:
                uses[period] += 1
        totals: dict[tuple[str, str], int] = {}
        for key, used in uses.items():
            row = {"grant_id": key[0], "period": key[1], "used": used}
            answer = self._statements.use_quota.ask(group.connection, row)
            group.afterwards.append(partial(_note_total, totals, key, answer))
        return totals

    def _refuse_all(self, group: _Group, refused: list[tuple[int, Refusal]]) -> None:
        if not refused:
            return
        first = group.append([(item.leaf.hash, item.leaf.entry) for _, item in refused])
        self._statements.add_refusal.many(
            group.connection,
            [
                {
                    "id": first + offset,
                    "refused_at": to_micros(item.refused_at),
                    "problem": item.problem,
                    "reason": item.reason,
                    "sender": item.sender,
                    "service": item.service,
                    "message_id": item.message_id,
                    "dossier": item.dossier,
                    "trace_id": item.trace_id,
                }
                for offset, (_, item) in enumerate(refused)
            ],
        )
        known = [(first + offset, item) for offset, (_, item) in enumerate(refused)]
        self._statements.add_refusal_details.many(
            group.connection,
            [
                {"id": id_, "details": json.dumps(item.details, ensure_ascii=False)}
                for id_, item in known
                if item.details
            ],
        )
        self._statements.keep_refused.many(
            group.connection,
            [{"id": id_, "sealed": item.kept.sealed, "until": to_micros(item.kept.until)}
             for id_, item in known if item.kept],
        )  # fmt: skip
        self._add_search_keys(group, [(id_, item.search_keys) for id_, item in known])

    def _count(self, group: _Group, works: Sequence[LedgerWork]) -> None:
        """Add this group to the durable totals, in its own transaction: they agree with the rows at every moment."""
        now = utc_now()
        totals: dict[tuple[str, str], int] = defaultdict(int)
        for index, work in enumerate(works):
            result = group.results.get(index)
            match work:
                case NewExchange() if isinstance(result, Recorded):
                    outcome = "repeated" if result.repeated else "accepted"
                    totals[outcome, work.message.manifest.service] += 1
                    if not result.repeated:
                        totals["accept_ms", _bucket(now - work.message.received_at)] += 1
                        totals["accept_us", ""] += _microseconds(now - work.message.received_at)
                case Refusal():
                    totals["refused", work.problem] += 1
                case Settlement() if result:
                    totals[_OUTCOMES[work.state], ""] += 1
                    totals["deliver_ms", _bucket(work.finished_at - work.started_at)] += 1
                    totals["deliver_us", ""] += _microseconds(work.finished_at - work.started_at)
        if totals and (took := self._commit_took) is not None:
            self._commit_took = None
            totals["commit_ms", _bucket(took)] += 1
            totals["commit_us", ""] += _microseconds(took)
        self._count_flows(group, works)
        # In one order everywhere: two nodes that add to the same totals never wait for each other in a circle.
        self._statements.add_count.many(
            group.connection,
            [{"name": name, "labels": label, "value": value} for (name, label), value in sorted(totals.items())],
        )

    def _count_flows(self, group: _Group, works: Sequence[LedgerWork]) -> None:
        """The same for each flow and hour: what the console shows costs the same, however many messages there are."""
        flows: dict[tuple[int, str, str, str, str], int] = defaultdict(int)
        for index, work in enumerate(works):
            result = group.results.get(index)
            match work:
                case NewExchange() if isinstance(result, Recorded) and not result.repeated:
                    manifest, hour = work.message.manifest, hour_of(work.message.received_at)
                    for _, system in work.routes:
                        flows[hour, manifest.sender, manifest.service, system, "accepted"] += 1
                case Refusal() if work.sender is not None:
                    flows[hour_of(work.refused_at), work.sender, work.service or "", "", "refused"] += 1
                case Settlement() if result:
                    sender, service, to, received_at = group.flows[work.delivery_id]
                    hour = hour_of(work.finished_at)
                    flows[hour, sender, service, to, _OUTCOMES[work.state]] += 1
                    if work.state is State.DELIVERED:
                        took = work.finished_at - from_micros(received_at)
                        flows[hour, sender, service, to, f"ms <= {_bucket(took)}"] += 1
        self._statements.add_flow.many(
            group.connection,
            [
                {"hour": hour, "sender": sender, "service": service, "system": system, "what": what, "value": value}
                for (hour, sender, service, system, what), value in sorted(flows.items())
            ],
        )

    # ── step 6: dispatch ──────────────────────────────────────────────────────────────────────────────────────────

    def hold_due(
        self, queued: Sequence[Reference], limits: Mapping[SystemCode, int], now: datetime, until: datetime
    ) -> list[Reference]:
        """One turn of a dispatcher in one transaction: note that ``queued`` are safe in their queues, and hold back up
        to ``limits[system]`` due rows of each system until then, to be published now.

        What is neither claimed nor noted as queued by that moment is due again: a dispatcher that dies loses nothing.
        """
        return self._store.write(self._hold_due_in, queued, limits, now, until)

    def _hold_due_in(
        self,
        connection: Connection,
        queued: Sequence[Reference],
        limits: Mapping[SystemCode, int],
        now: datetime,
        until: datetime,
    ) -> list[Reference]:
        if queued:
            rows = [reference.outbox_id for reference in queued]
            self._statements.note_queued.run(connection, {"ids": rows})
        if not limits:
            return []
        waiting = {
            system for system, due_at in self._statements.systems_due.rows(connection) if due_at <= to_micros(now)
        }
        due = self._due(connection, {system: most for system, most in limits.items() if system in waiting}, now)
        if not due:
            return []
        held = {"ids": [row for row, _ in due], "until": to_micros(until), "now": to_micros(now)}
        with together(connection):
            self._statements.hold.run(connection, held)
            traces = self._statements.traces_of.rows(connection, {"ids": [delivery for _, delivery in due]})
        row_of = {delivery: row for row, delivery in due}
        return [
            Reference(delivery_id=delivery, system=SystemCode.unchecked(system), traceparent=trace,
                      outbox_id=row_of[delivery])
            for delivery, system, trace in traces
        ]  # fmt: skip

    def settle_and_claim_these(
        self, settled: Sequence[Settlement], delivery_ids: Sequence[int], now: datetime, lease: timedelta
    ) -> list[Claim]:
        """One turn of a delivery process in one transaction: what ended, and of the deliveries that references named
        those that still wait. A reference that came twice, or too late, claims nothing."""
        return self._store.write(self._settle_and_claim_these_in, settled, delivery_ids, now, lease)

    def _settle_and_claim_these_in(
        self,
        connection: Connection,
        settled: Sequence[Settlement],
        delivery_ids: Sequence[int],
        now: datetime,
        lease: timedelta,
    ) -> list[Claim]:
        self._write_in(connection, settled)
        if not delivery_ids:
            return []
        values = {"ids": sorted(set(delivery_ids)), "lease_until": to_micros(now + lease)}
        won = [row[0] for row in self._statements.lease_these.rows(connection, values)]
        if not won:
            return []
        with together(connection):
            self._statements.leave_outbox_of.run(connection, {"ids": won})
            claimed = self._statements.claims_of.rows(connection, {"ids": won})
        return [_claim(row) for row in claimed]

    def hand_back(self, delivery_ids: Sequence[int], due_at: datetime) -> None:
        """References that were taken from a queue and not used (their receiver rests) are due again at that moment."""
        values = {"ids": list(delivery_ids), "due_at": to_micros(due_at)}
        self._store.write(lambda connection: self._statements.hand_back.run(connection, values))

    def requeue_lost(self, system: SystemCode, queued_before: datetime, now: datetime) -> int:
        """What should lie in a queue that was found empty is due again; counted. For a broker that lost its disks."""
        values = {"system": system, "before": to_micros(queued_before), "now": to_micros(now)}
        requeued: int = self._store.write(lambda connection: self._statements.requeue_lost.touch(connection, values))
        return requeued

    def queued_systems(self, queued_before: datetime) -> list[SystemCode]:
        """The systems of which something has lain in a queue since before that moment."""
        query = select(outbox.c.system).where(outbox.c.queued_at < to_micros(queued_before)).distinct()
        with self._store.reading() as connection:
            return [SystemCode.unchecked(system) for system in connection.execute(query).scalars()]

    # ── step 7: claim ─────────────────────────────────────────────────────────────────────────────────────────────

    def systems_due(self, now: datetime) -> list[tuple[SystemCode, datetime]]:
        """The systems that messages wait for, each with the moment its first one is due.

        Steps from one system to the next through the index: the cost follows the number of systems, not of messages.
        """
        with self._store.reading() as connection:
            rows = self._statements.systems_due.rows(connection)
        return [(SystemCode.unchecked(row[0]), from_micros(row[1])) for row in rows]

    def claim(self, limits: Mapping[SystemCode, int], now: datetime, lease: timedelta) -> list[Claim]:
        """Take up to ``limits[system]`` due deliveries of each system, oldest due first, for the time of a lease."""
        return self.settle_and_claim([], limits, now, lease)

    def settle_and_claim(
        self, settled: Sequence[Settlement], limits: Mapping[SystemCode, int], now: datetime, lease: timedelta
    ) -> list[Claim]:
        """One turn of a delivery process in one transaction and one flush: what ended, and what comes next."""
        return self._store.write(self._settle_and_claim_in, settled, limits, now, lease)

    def _settle_and_claim_in(
        self,
        connection: Connection,
        settled: Sequence[Settlement],
        limits: Mapping[SystemCode, int],
        now: datetime,
        lease: timedelta,
    ) -> list[Claim]:
        self._write_in(connection, settled)
        return self._claim_in(connection, limits, now, lease)

    def _claim_in(
        self, connection: Connection, limits: Mapping[SystemCode, int], now: datetime, lease: timedelta
    ) -> list[Claim]:
        due = self._due(connection, limits, now)
        if not due:
            return []
        ids = [delivery for _, delivery in due]
        with together(connection):
            self._statements.leave_outbox.run(connection, {"ids": [row for row, _ in due]})
            self._statements.lease.run(connection, {"ids": ids, "lease_until": to_micros(now + lease)})
            claimed = self._statements.claims_of.rows(connection, {"ids": ids})
        return [_claim(row) for row in claimed]

    def _due(self, connection: Connection, limits: Mapping[SystemCode, int], now: datetime) -> list[tuple[Any, ...]]:
        """Outbox rows and deliveries, up to the limit of each system, locked for this transaction."""
        with together(connection):
            asked = [
                self._statements.due_of_system.ask(connection, {"system": system, "now": to_micros(now), "most": limit})
                for system, limit in limits.items()
            ]
            return [row for answer in asked for row in answer()]

    def claim_again(self, message_id: MessageId, now: datetime, lease: timedelta) -> Claim | None:
        """Take a request-reply call whose caller repeats it after a failure; None while another attempt runs."""
        return self._store.write(self._claim_again_in, message_id, now, lease)

    def _claim_again_in(
        self, connection: Connection, message_id: MessageId, now: datetime, lease: timedelta
    ) -> Claim | None:
        self._take_turn(connection)
        row = connection.execute(
            select(deliveries.c.id)
            .join(exchanges)
            .join(payloads, payloads.c.exchange_id == exchanges.c.id)  # what was erased cannot be sent
            .where(exchanges.c.message_id == message_id, deliveries.c.state.in_(_NOT_SENT))
        ).first()
        if row is None:
            return None
        connection.execute(
            update(deliveries)
            .where(deliveries.c.id == row.id, deliveries.c.state.in_(_NOT_SENT))
            .values(
                state=State.DELIVERING,
                attempt=deliveries.c.attempt + 1,
                lease_until=to_micros(now + lease),
                settled_at=None,
            )
        )
        return _claim(connection.execute(_CLAIMED.where(deliveries.c.id == row.id)).one())

    def has_due(self, system: SystemCode, now: datetime) -> bool:
        """Is there anything to claim for this system? One look into the index."""
        with self._store.reading() as connection:
            query = select(literal(1)).where(outbox.c.system == system, outbox.c.due_at <= to_micros(now)).limit(1)
            return connection.execute(query).first() is not None

    def held_claim(self, delivery: int, attempt: int) -> Claim | None:
        """The claim of this attempt while it lasts: what an acknowledgement is about."""
        with self._store.reading() as connection:
            row = connection.execute(
                _CLAIMED.where(
                    deliveries.c.id == delivery,
                    deliveries.c.attempt == attempt,
                    deliveries.c.state == State.DELIVERING,
                )
            ).first()
        return None if row is None else _claim(row)

    # ── step 8: settle ────────────────────────────────────────────────────────────────────────────────────────────

    def _settle_all(
        self, group: _Group, settled: list[tuple[int, Settlement]], claims: Sequence[tuple[Any, ...]]
    ) -> None:
        if not settled:
            return
        held = {delivery: (attempt, system, key) for delivery, attempt, system, key, *_ in claims}
        systems = {delivery: system for delivery, _, system, *_ in claims}
        group.flows.update({row[0]: (row[4], row[5], row[2], row[6]) for row in claims})
        valid: list[Settlement] = []
        lines: set[tuple[str, str]] = set()
        for index, item in settled:
            attempt, system, key = held.get(item.delivery_id, (None, None, None))
            group.results[index] = attempt == item.attempt
            if group.results[index]:
                valid.append(item)
                held.pop(item.delivery_id)
                if item.state is not State.WAITING and key is not None:
                    lines.add((key, system))
        if valid:
            group.ended = (valid[0].delivery_id, valid[0].attempt)
            self._write_settlements(group, valid, systems)
            self._release_next_in_line(group.connection, lines)

    def _write_settlements(self, group: _Group, valid: Sequence[Settlement], systems: Mapping[int, SystemCode]) -> None:
        connection = group.connection
        with_leaf = [item for item in valid if item.leaf is not None]
        positions: dict[int, int] = {}
        if with_leaf:
            first = group.append([(i.leaf.hash, i.leaf.entry) for i in with_leaf if i.leaf])
            positions = {item.delivery_id: first + offset for offset, item in enumerate(with_leaf)}
        self._statements.settle.many(
            connection,
            [
                {
                    "b_id": item.delivery_id,
                    "b_attempt": item.attempt,
                    "b_state": item.state,
                    "b_problem": json.dumps(item.problem) if item.problem else None,
                    "b_settled_at": None if item.state is State.WAITING else to_micros(item.finished_at),
                    "b_receipt": item.receipt_jws,
                    "b_leaf": positions.get(item.delivery_id),
                }
                for item in valid
            ],
        )
        self._statements.add_attempt.many(
            connection,
            [
                {
                    "delivery_id": item.delivery_id,
                    "number": item.attempt,
                    "started_at": to_micros(item.started_at),
                    "finished_at": to_micros(item.finished_at),
                    "outcome": item.state,
                    "problem": json.dumps(item.problem) if item.problem else None,
                }
                for item in valid
            ],
        )
        answered = [_reply_row(item.delivery_id, item.reply) for item in valid if item.reply is not None]
        self._statements.add_reply.many(connection, answered)
        said = [(exchange_of(item.delivery_id), item.dossier_facts) for item in valid if item.dossier_facts]
        if said:
            places = {exchange_of(delivery): position for delivery, position in positions.items()}
            self._add_dossier_facts(group, said, FIRST_OF_REPLY, places)
        later = [item for item in valid if item.state is State.WAITING]
        self._put_in_outbox(
            connection, [_outbox_row(i.delivery_id, systems[i.delivery_id], i.due_at or i.finished_at) for i in later]
        )

    def _put_in_outbox(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Make due, and tell the deliverers of every host once this is committed."""
        self._statements.add_outbox.many(connection, rows)
        if rows and self._statements.ring is not None:
            self._statements.ring.run(connection)

    def _release_next_in_line(self, connection: Connection, lines: set[tuple[str, str]]) -> None:
        """Make due the next message of each dossier and system whose earlier message has just ended."""
        if not lines:
            return
        heads = self._statements.heads_of_lines.rows(connection, {"keys": {key for key, _ in lines}})
        now = utc_now()
        self._put_in_outbox(
            connection,
            [_outbox_row(delivery, system, now) for key, system, delivery in heads if (key, system) in lines],
        )

    def release_stalled(self, now: datetime) -> int:
        """Give back deliveries whose lease ran out (their process died or hung) and count them.

        It becomes due at once, unless that has happened too often: a message that kills whoever delivers it must not
        do so for ever. A request-reply call is dead right away: its caller has long had its time-out, and asks again
        itself.
        """
        with self._store.reading() as connection:  # every process asks every second, and mostly there is none
            if connection.execute(_STALLED.limit(1), {"now": to_micros(now)}).first() is None:
                return 0
        return self._store.write(self._release_stalled_in, now)

    def _release_stalled_in(self, connection: Connection, now: datetime) -> int:
        self._take_turn(connection)
        rows = connection.execute(_STALLED, {"now": to_micros(now)}).all()
        self._write_in(connection, [_stalled(row, now) for row in rows])
        return len(rows)

    def replay(
        self,
        delivery_ids: Sequence[int],
        actor: str,
        reason: str,
        now: datetime,
        also: Callable[[Connection], None] | None = None,
    ) -> tuple[int, int]:
        """Send dead deliveries again; ``(number of the replay, deliveries moved)``. The attempts so far stay linked.
        ``also`` is written in the same transaction, if anything moved: the audit trail's event."""

        def replay(connection: Connection) -> tuple[int, int]:
            number, moved = self.replay_in(connection, delivery_ids, actor, reason, now)
            if also is not None and moved:
                also(connection)
            return number, len(moved)

        return self._store.write(replay)

    def replay_in(
        self, connection: Connection, delivery_ids: Sequence[int], actor: str, reason: str, now: datetime
    ) -> tuple[int, list[int]]:
        """The same in a transaction of the caller's, with the deliveries that were moved."""
        self._take_turn(connection)
        dead = connection.execute(
            select(deliveries.c.id, deliveries.c.attempt, deliveries.c.system)
            .join(exchanges)
            .where(
                deliveries.c.id.in_(list(delivery_ids)),
                deliveries.c.state == State.DEAD,
                exchanges.c.pattern == Pattern.ONE_WAY,
            )
            .order_by(deliveries.c.id)
        ).all()
        replay_id: int = connection.execute(
            insert(replays).values(ordered_at=to_micros(now), actor=actor, reason=reason).returning(replays.c.id)
        ).scalar_one()
        if dead:
            connection.execute(
                insert(replayed),
                [{"replay_id": replay_id, "delivery_id": row.id, "after_attempt": row.attempt} for row in dead],
            )
            connection.execute(
                update(deliveries)
                .where(deliveries.c.id.in_([row.id for row in dead]), deliveries.c.state == State.DEAD)
                .values(
                    state=State.WAITING,
                    settled_at=None,
                    leaf=None,
                    attempts_before=deliveries.c.attempt,
                    retry_since=to_micros(now),
                )
            )
            self._put_in_outbox(connection, [_outbox_row(row.id, row.system, now) for row in dead])
        return replay_id, [row.id for row in dead]

    def set_aside_in(self, connection: Connection, delivery_ids: Sequence[int]) -> list[int]:
        """Dead deliveries leave the list of what needs somebody, in a transaction of the caller's; those that were
        moved. Their evidence, attempts and last problem stay. Who and why: :mod:`bus.bulk`."""
        return self._move(connection, delivery_ids, State.DEAD, State.SET_ASIDE)

    def take_back_in(self, connection: Connection, delivery_ids: Sequence[int]) -> list[int]:
        """What was set aside is dead again, and may be sent again: only while its body is kept."""
        return self._move(connection, delivery_ids, State.SET_ASIDE, State.DEAD)

    def _move(self, connection: Connection, delivery_ids: Sequence[int], source: State, to: State) -> list[int]:
        self._take_turn(connection)
        kept = exists().where(payloads.c.exchange_id == deliveries.c.exchange_id)
        moved = connection.execute(
            update(deliveries)
            .where(deliveries.c.id.in_(list(delivery_ids)), deliveries.c.state == source)
            .where(kept if to is State.DEAD else true())
            .values(state=to)
            .returning(deliveries.c.id)
        )
        return sorted(moved.scalars())

    # ── telling ───────────────────────────────────────────────────────────────────────────────────────────────────────
    # Each in a reading of its own; how, and what it costs: bus/telling.py, bus/search.py.

    def find(self, message_id: MessageId) -> ExchangeRecord | None:
        """Everything known of one message, or None."""
        with self._store.reading() as connection:
            return telling.find(connection, message_id)

    def search(self, wanted: Wanted) -> list[FoundMessage]:
        """Messages that fit all that is wanted, newest first, no more than :data:`bus.search.MOST_FOUND` at once.

        The next page: ``before`` the last one's ``exchange_id``; an empty page is the end. What is common is found at
        once, and what is rare among much costs as much as must be looked through: name a time as well.
        """
        with self._store.reading() as connection:
            return search(connection, wanted)

    def search_page(self, wanted: Wanted) -> FoundPage:
        """The same, but looking through no more than some thousands: a page may have few messages or none and yet not
        be the last."""
        with self._store.reading() as connection:
            return search_page(connection, wanted)

    def found_by(self, key: int) -> tuple[list[ExchangeRecord], list[RefusalRecord]]:
        """Messages and refusals that this key finds (:mod:`bus.finding`): the newest of both together, oldest first."""
        with self._store.reading() as connection:
            return telling.found_by(connection, key)

    def of_dossier(self, *codes: str) -> list[ExchangeRecord]:
        """Every message that is of a dossier or speaks of it, in the order of acceptance; of very many the last."""
        with self._store.reading() as connection:
            return telling.of_dossier(connection, *codes)

    def codes_of_dossier(self, code: str) -> tuple[str, ...]:
        """All codes of the dossier that has this one, the code that it is counted under first."""
        with self._store.reading() as connection:
            return telling.codes_of_dossier(connection, code)

    def said_of_dossier(self, *codes: str) -> list[DossierEvent]:
        """What messages said of a dossier, in the order of acceptance; of very many the last."""
        with self._store.reading() as connection:
            return telling.said_of_dossier(connection, *codes)

    def milestones(self, since: datetime, until: datetime) -> Iterator[tuple[Any, ...]]:
        """What was said of every dossier that came in or was finished in ``[since, until)``: rows of
        :data:`bus.telling.MILESTONE_COLUMNS`, dossier by dossier, each in the order of acceptance."""
        with self._store.reading(unhurried=True) as connection:
            yield from telling.milestones(connection, since, until)

    def dead(self, most: int = 1000, system: SystemCode | None = None, after: int = -1) -> list[DeadRecord]:
        """Dead deliveries with their last problem, oldest first; ``after``: the last delivery id of the page before."""
        with self._store.reading() as connection:
            return telling.dead(connection, most, system, after)

    def refusals_of(
        self, *, message_id: MessageId | None = None, dossier: DossierCode | None = None
    ) -> list[RefusalRecord]:
        """Refusals of one message id or dossier, oldest first."""
        with self._store.reading() as connection:
            return telling.refusals_of(connection, message_id=message_id, dossier=dossier)

    def refusal(self, id_: int) -> RefusalRecord | None:
        """The refusal of this number, which is its place in the evidence log."""
        with self._store.reading() as connection:
            return telling.refusal(connection, id_)

    def kept_refused(self, id_: int, now: datetime) -> bytes | None:
        """The sealed message of a refusal (:mod:`bus.refused`), if it is kept and its hours are not over."""
        with self._store.reading() as connection:
            return telling.kept_refused(connection, id_, now)

    def body_of(self, exchange_id: int) -> bytes | None:
        """The exact bytes received, or None once they were erased."""
        with self._store.reading() as connection:
            return telling.body_of(connection, exchange_id)

    def carried(
        self, services: Collection[ServiceCode], since: datetime, until: datetime | None = None
    ) -> Iterator[Carried]:
        """Every message of these services that was accepted in ``[since, until)``, in the order of acceptance, with its
        bytes."""
        with self._store.reading() as connection:
            yield from telling.carried(connection, services, since, until)

    def was_delivered(self, message_id: MessageId) -> bool:
        """Has any receiver of this message got it?"""
        with self._store.reading() as connection:
            return telling.was_delivered(connection, message_id)

    def reply_to(self, message_id: MessageId) -> StoredReply | None:
        """The stored answer of a request-reply call that was delivered."""
        with self._store.reading() as connection:
            return telling.reply_to(connection, message_id)

    def totals(self) -> dict[tuple[str, str], int]:
        """The durable counters, ``(name, label) → value``."""
        with self._store.reading() as connection:
            return telling.totals(connection)

    def queues(self) -> list[QueueRecord]:
        """Each system's waiting messages: how many, and since when the oldest waits."""
        with self._store.reading() as connection:
            return telling.queues(connection)

    def states(self) -> dict[State, int]:
        """How many deliveries stand in each state."""
        with self._store.reading() as connection:
            return telling.states(connection)

    def unsettled(self) -> dict[State, int]:
        """How many deliveries are under way or dead. Costs as much as there are of these, not of messages."""
        with self._store.reading() as connection:
            return telling.unsettled(connection)

    def quota_used(self, grant_id: str, period: str) -> int:
        with self._store.reading() as connection:
            used: int | None = connection.execute(
                select(quota_usage.c.used).where(quota_usage.c.grant_id == grant_id, quota_usage.c.period == period)
            ).scalar()
            return used or 0

    # ── refused messages that were kept ───────────────────────────────────────────────────────────────────────────────

    def forget_refused(self, id_: int, also: Callable[[Connection], None]) -> None:
        """It was taken on: it need not be kept. ``also`` is written in the same transaction."""

        def change(connection: Connection) -> None:
            connection.execute(delete(refused_messages).where(refused_messages.c.id == id_))
            also(connection)

        self._store.write(change)

    def forget_refused_in_time(self, connection: Connection, now: datetime) -> int:
        """Those whose hours are over; how many. In the caller's transaction."""
        over = delete(refused_messages).where(refused_messages.c.until <= to_micros(now))
        return int(connection.execute(over).rowcount)

    # ── attachments ───────────────────────────────────────────────────────────────────────────────────────────────

    def add_attachment(self, sha256: str, agency: AgencyCode, length: int, now: datetime) -> None:
        """Note that an agency has stored a file; again is harmless."""
        row = {"sha256": sha256, "agency": agency, "length": length, "stored_at": to_micros(now)}
        self._store.write(lambda connection: connection.execute(_ADD_ATTACHMENT, row))

    def attachment_lengths(self, digests: Sequence[str], agency: AgencyCode) -> dict[str, int]:
        """Which of these files an agency has stored, with their lengths in bytes."""
        with self._store.reading() as connection:
            rows = connection.execute(
                select(attachments.c.sha256, attachments.c.length).where(
                    attachments.c.sha256.in_(list(digests)), attachments.c.agency == agency
                )
            )
            return {row.sha256: row.length for row in rows}

    def may_read_attachment(self, sha256: str, agency: AgencyCode) -> bool:
        """Only who stored a file, or is a party to a message that names it, may read it."""
        with self._store.reading() as connection:
            if connection.execute(
                select(literal(1)).where(attachments.c.sha256 == sha256, attachments.c.agency == agency)
            ).first():
                return True
            party = (
                select(literal(1))
                .select_from(exchange_attachments)
                .join(exchanges, exchanges.c.id == exchange_attachments.c.exchange_id)
                .outerjoin(deliveries, deliveries.c.exchange_id == exchanges.c.id)
                .where(
                    exchange_attachments.c.sha256 == sha256,
                    or_(exchanges.c.sender == agency, deliveries.c.receiver == agency),
                )
                .limit(1)
            )
            return connection.execute(party).first() is not None


#: Pauses before each look for what became of a commit that broke: the time of a restart or a quick failover.
_FINDING_OUT_SECONDS = (0.0, 0.2, 0.5, 1.0, 2.0, 4.0)

#: What a claim is made of, in the order in which `_claim` reads it.
_CLAIM_COLUMNS = (
    deliveries.c.id, deliveries.c.exchange_id, deliveries.c.attempt, deliveries.c.lease_until, deliveries.c.receiver,
    deliveries.c.system, deliveries.c.attempts_before, deliveries.c.retry_since,
    exchanges.c.message_id, exchanges.c.sender, exchanges.c.service, exchanges.c.service_version, exchanges.c.pattern,
    exchanges.c.manifest, exchanges.c.manifest_sha256, exchanges.c.receipt, exchanges.c.received_at,
    exchanges.c.traceparent, exchanges.c.dossier,
    payloads.c.body,
)  # fmt: skip

#: A claim's row; ``where`` says which.
_CLAIMED = (
    select(*_CLAIM_COLUMNS)
    .select_from(deliveries)
    .join(exchanges, exchanges.c.id == deliveries.c.exchange_id)
    .outerjoin(payloads, payloads.c.exchange_id == exchanges.c.id)
)

#: Attempts after which a delivery whose lease runs out is dead. High, because a member that fetches from its inbox and
#: crashes before it acknowledges uses them up as well.
MOST_ATTEMPTS_WITHOUT_END = 50

#: Deliveries whose lease ran out.
_STALLED = (
    select(
        deliveries.c.id,
        deliveries.c.attempt,
        deliveries.c.attempts_before,
        deliveries.c.receiver,
        exchanges.c.pattern,
        exchanges.c.message_id,
        exchanges.c.manifest_sha256,
    )
    .join(exchanges, exchanges.c.id == deliveries.c.exchange_id)
    # Said in full, not bound: so the partial index serves.
    .where(deliveries.c.state == literal_column("'delivering'"), deliveries.c.lease_until < bindparam("now"))
    .order_by(deliveries.c.lease_until)
    .limit(1000)
)


class _Statements:
    """The statements that run with every message, compiled once for the store's dialect."""

    def __init__(self, dialect: Dialect) -> None:
        ids: BindParameter[Any] = bindparam("ids", expanding=True)
        keys: BindParameter[Any] = bindparam("keys", expanding=True)

        def prepared(statement: Executable, *columns: str) -> Prepared:
            return Prepared(statement, dialect, columns or None)

        # Record
        self.find_recorded = prepared(
            select(
                exchanges.c.id,
                exchanges.c.message_id,
                exchanges.c.facts_sha256,
                exchanges.c.receipt,
                exchanges.c.received_at,
            ).where(exchanges.c.message_id.in_(bindparam("message_ids", expanding=True)))
        )
        self.keys_in_line = prepared(
            select(deliveries.c.ordering_key, deliveries.c.system)
            .where(deliveries.c.ordering_key.in_(keys), UNFINISHED)
            .distinct()
        )
        self.add_exchange = prepared(insert(exchanges))
        self.add_payload = prepared(insert(payloads))
        self.add_delivery = prepared(
            insert(deliveries),
            *("id", "exchange_id", "receiver", "system", "state", "attempt", "lease_until", "ordering_key"),
            *("attempts_before", "retry_since"),
        )
        self.add_outbox = prepared(insert(outbox), "delivery_id", "system", "due_at")
        self.add_exchange_attachment = prepared(insert(exchange_attachments))
        self.add_refusal = prepared(insert(refusals))
        self.add_refusal_details = prepared(insert(refusal_details))
        self.keep_refused = prepared(insert(refused_messages))
        self.add_search_key = prepared(insert(search_keys))
        #: Ends at the bell of each delivery process (:class:`bus.postgresql.Bell`); said twice in a transaction, once.
        self.ring = prepared(select(func.pg_notify(CHANNEL, ""))) if dialect.name == "postgresql" else None
        self.add_count = Prepared(insert(counters), dialect, ending=_ADDED_UP)
        self.add_flow = Prepared(insert(flow_hours), dialect, ending=_FLOW_ADDED_UP)
        self.use_quota = prepared(_USE_QUOTA)
        self.add_dossier_event = prepared(insert(dossier_events))
        self.use_proof = prepared(_USE_PROOF)
        self.proofs_used = prepared(
            select(used_proofs.c.proof, used_proofs.c.use).where(
                used_proofs.c.proof.in_(bindparam("proofs", expanding=True))
            )
        )
        # Claim
        self.systems_due = prepared(_SYSTEMS_DUE)
        self.due_of_system = prepared(
            select(outbox.c.id, outbox.c.delivery_id)
            .where(outbox.c.system == bindparam("system"), outbox.c.due_at <= bindparam("now"))
            .order_by(outbox.c.due_at, outbox.c.id)
            .limit(bindparam("most"))
            .with_for_update(skip_locked=True)
        )
        self.leave_outbox = prepared(delete(outbox).where(outbox.c.id.in_(ids)))
        self.lease = prepared(
            update(deliveries)
            .where(deliveries.c.id.in_(ids), deliveries.c.state == State.WAITING.value)
            .values(
                state=State.DELIVERING.value,
                attempt=deliveries.c.attempt + 1,
                lease_until=bindparam("lease_until", type_=BigInteger),
            )
        )
        self.claims_of = prepared(_CLAIMED.where(deliveries.c.id.in_(ids)).order_by(deliveries.c.id))
        # Dispatch
        self.note_queued = prepared(
            update(outbox).where(outbox.c.id.in_(ids), outbox.c.queued_at.is_not(None)).values(due_at=NEVER)
        )
        self.hold = prepared(
            update(outbox)
            .where(outbox.c.id.in_(ids))
            .values(due_at=bindparam("until", type_=BigInteger), queued_at=bindparam("now", type_=BigInteger))
        )
        self.traces_of = prepared(
            select(deliveries.c.id, deliveries.c.system, exchanges.c.traceparent)
            .join(exchanges, exchanges.c.id == deliveries.c.exchange_id)
            .where(deliveries.c.id.in_(ids))
            .order_by(deliveries.c.id)
        )
        # Not what waits for a later attempt: an old reference must not bring it forward.
        sent = exists().where(outbox.c.delivery_id == deliveries.c.id, outbox.c.queued_at.is_not(None))
        self.lease_these = prepared(
            update(deliveries)
            .where(deliveries.c.id.in_(ids), deliveries.c.state == State.WAITING.value, sent)
            .values(
                state=State.DELIVERING.value,
                attempt=deliveries.c.attempt + 1,
                lease_until=bindparam("lease_until", type_=BigInteger),
            )
            .returning(deliveries.c.id)
        )
        self.leave_outbox_of = prepared(delete(outbox).where(outbox.c.delivery_id.in_(ids)))
        self.hand_back = prepared(
            update(outbox)
            .where(outbox.c.delivery_id.in_(ids), outbox.c.queued_at.is_not(None))
            .values(due_at=bindparam("due_at", type_=BigInteger), queued_at=None)
        )
        self.requeue_lost = prepared(
            update(outbox)
            .where(
                outbox.c.system == bindparam("system"),
                outbox.c.due_at == NEVER,
                outbox.c.queued_at < bindparam("before", type_=BigInteger),
            )
            .values(due_at=bindparam("now", type_=BigInteger), queued_at=None)
        )
        # Settle
        self.held_claims = prepared(
            select(
                deliveries.c.id,
                deliveries.c.attempt,
                deliveries.c.system,
                deliveries.c.ordering_key,
                exchanges.c.sender,
                exchanges.c.service,
                exchanges.c.received_at,
            )
            .join(exchanges, exchanges.c.id == deliveries.c.exchange_id)
            .where(deliveries.c.id.in_(ids), deliveries.c.state == State.DELIVERING.value)
        )
        self.settle = prepared(
            update(deliveries)
            .where(
                deliveries.c.id == bindparam("b_id"),
                deliveries.c.attempt == bindparam("b_attempt"),
                deliveries.c.state == State.DELIVERING.value,
            )
            .values(
                state=bindparam("b_state"),
                lease_until=None,
                problem=bindparam("b_problem"),
                settled_at=bindparam("b_settled_at"),
                receipt=bindparam("b_receipt"),
                leaf=bindparam("b_leaf"),
            )
        )
        self.add_attempt = prepared(insert(attempts))
        self.add_reply = prepared(insert(replies))
        first = (
            select(deliveries.c.ordering_key, deliveries.c.system, func.min(deliveries.c.id).label("id"))
            .where(deliveries.c.ordering_key.in_(keys), UNFINISHED)
            .group_by(deliveries.c.ordering_key, deliveries.c.system)
            .subquery("first")
        )
        #: The first of each line, where it waits and has no date.
        self.heads_of_lines = prepared(
            select(first.c.ordering_key, first.c.system, first.c.id)
            .join(deliveries, deliveries.c.id == first.c.id)
            .where(deliveries.c.state == State.WAITING.value, ~exists().where(outbox.c.delivery_id == deliveries.c.id))
        )


#: Jumps from system to system along the index (a "loose index scan"), with each system's first due moment.
_SYSTEMS_DUE = text(
    """
    WITH RECURSIVE waiting(system) AS (
        SELECT MIN(system) FROM outbox
        UNION ALL
        SELECT (SELECT MIN(system) FROM outbox WHERE outbox.system > waiting.system)
        FROM waiting WHERE waiting.system IS NOT NULL
    )
    SELECT system, (SELECT MIN(due_at) FROM outbox WHERE outbox.system = waiting.system) AS due_at
    FROM waiting WHERE system IS NOT NULL
    """
)

_ADDED_UP = " ON CONFLICT (name, labels) DO UPDATE SET value = counters.value + excluded.value"

_FLOW_ADDED_UP = (
    " ON CONFLICT (hour, sender, service, system, what) DO UPDATE SET value = flow_hours.value + excluded.value"
)

_USE_QUOTA = text(
    "INSERT INTO quota_usage (grant_id, period, used) VALUES (:grant_id, :period, :used) "
    "ON CONFLICT (grant_id, period) DO UPDATE SET used = quota_usage.used + excluded.used RETURNING used"
)

_USE_PROOF = text(
    "INSERT INTO used_proofs (proof, use, expires_at) VALUES (:proof, :use, :expires_at) ON CONFLICT (proof) DO NOTHING"
)

_ADD_ATTACHMENT = text(
    "INSERT INTO attachments (sha256, agency, length, stored_at) VALUES (:sha256, :agency, :length, :stored_at) "
    "ON CONFLICT (sha256, agency) DO NOTHING"
)

_LEASE_RAN_OUT = {"problem": "internal-failure", "reason": "lease-ran-out", "facts": {}}

#: What nothing will send any more by itself.
_NOT_SENT = (State.DEAD.value, State.SET_ASIDE.value)

_OUTCOMES = {State.DELIVERED: "delivered", State.WAITING: "retried", State.DEAD: "died"}

#: Upper bounds of the latency histograms, milliseconds.
BUCKETS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000)


def _bucket(elapsed: timedelta) -> str:
    milliseconds = elapsed / timedelta(milliseconds=1)
    return next((str(bound) for bound in BUCKETS_MS if milliseconds <= bound), "+Inf")


def _microseconds(elapsed: timedelta) -> int:
    """Never negative: a clock that was set back must not make a total shrink."""
    return max(0, elapsed // timedelta(microseconds=1))


@dataclass(slots=True, kw_only=True)
class _Group:
    """Works that are written in one transaction, while they are."""

    connection: Connection
    #: None where nothing but proofs was used: that appends nothing.
    turn: AppendTurn | None = None
    #: By the work's place in the group.
    results: dict[int, Any] = field(default_factory=dict)
    #: Delivery → sender, service, receiving system and microsecond of acceptance.
    flows: dict[int, tuple[str, str, str, int]] = field(default_factory=dict)
    #: What needs answers of the store, once everything was sent.
    afterwards: list[Callable[[], None]] = field(default_factory=list)
    #: Delivery and number of the first attempt whose end was written.
    ended: tuple[int, int] | None = None

    def append(self, leaves: Sequence[tuple[bytes, bytes]]) -> int:
        """The position of the first, in the evidence log."""
        if self.turn is None:
            raise ValueError("whoever appends takes its turn first")
        return self.turn.append(leaves)

    def answers(self, works: int) -> list[Any]:
        return [self.results.get(index) for index in range(works)]


def _note_total(totals: dict[tuple[str, str], int], period: tuple[str, str], answer: _Answer) -> None:
    totals[period] = answer()[0][0]


def _of_type(works: Sequence[LedgerWork], kind: type[W]) -> list[tuple[int, W]]:
    return [(index, work) for index, work in enumerate(works) if isinstance(work, kind)]


def _as_repeated(new: NewExchange, exchange_id: int, facts_sha256: str, receipt: Receipt) -> Recorded | Exception:
    if new.message.manifest.facts_sha256() != facts_sha256:
        return IdempotencyConflict("message-id-used")
    return Recorded(exchange_id=exchange_id, receipt=receipt, repeated=True)


def _exchange_row(exchange_id: int, new: NewExchange) -> dict[str, Any]:
    message, manifest = new.message, new.message.manifest
    return {
        "id": exchange_id,
        "message_id": manifest.message_id,
        "facts_sha256": manifest.facts_sha256(),
        "manifest_sha256": message.manifest_sha256,
        "manifest": message.manifest_jws,
        "receipt": new.receipt.receipt,
        "sender": manifest.sender,
        "sender_system": message.principal.system,
        "service": manifest.service,
        "service_version": manifest.service_version,
        "pattern": new.pattern,
        "grade": message.grade,
        "dossier": manifest.dossier,
        "received_at": to_micros(message.received_at),
        "traceparent": message.traceparent,
    }


def _delivery_row(
    exchange_id: int, number: int, receiver: AgencyCode, system: SystemCode, new: NewExchange
) -> dict[str, Any]:
    claimed = new.lease_until is not None
    return {
        "id": delivery_id(exchange_id, number),
        "exchange_id": exchange_id,
        "receiver": receiver,
        "system": system,
        "state": State.DELIVERING if claimed else State.WAITING,
        "attempt": 1 if claimed else 0,
        "lease_until": to_micros(new.lease_until) if new.lease_until else None,
        "ordering_key": new.ordering_key,
        "attempts_before": 0,
        "retry_since": to_micros(new.message.received_at),
    }


def _outbox_row(delivery: int, system: str, due_at: datetime) -> dict[str, Any]:
    return {"delivery_id": delivery, "system": system, "due_at": to_micros(due_at)}


def _dossier_row(exchange_id: int, number: int, fact: DossierFact, position: int | None) -> dict[str, Any]:
    return {
        "exchange_id": exchange_id,
        "number": number,
        "dossier": fact.dossier,
        "unit": fact.unit,
        "at": to_micros(fact.at),
        "status": fact.status,
        "said": fact.said,
        "received": _micros(fact.received),
        "due": _micros(fact.due),
        "finished": _micros(fact.finished),
        "holder": fact.holder,
        "procedure": fact.procedure,
        "channel": fact.channel,
        "amount": fact.amount,
        "payment_reference": fact.payment_reference,
        "payment_state": fact.payment_state,
        "parcel": fact.parcel,
        "parcel_state": fact.parcel_state,
        "synchronises": int(fact.synchronises),
        "position": position,
    }


def _reply_row(delivery: int, reply: StoredReply) -> dict[str, Any]:
    original = reply.original
    return {
        "delivery_id": delivery,
        "manifest": reply.manifest_jws,
        "content_type": reply.content_type,
        "body": reply.body,
        "original_manifest": original.manifest_jws if original else None,
        "original_content_type": original.content_type if original else None,
        "original_body": original.body if original else None,
    }


def _claim(row: Sequence[Any]) -> Claim:
    """Of the columns in ``_CLAIM_COLUMNS``, in their order. The store's own values are not checked again."""
    (
        number, exchange_id, attempt, lease_until, receiver, system, attempts_before, retry_since,
        message_id, sender, service, service_version, pattern, manifest_jws, manifest_sha256, receipt_jws,
        received_at, traceparent, dossier, body,
    ) = row  # fmt: skip
    return Claim(
        delivery_id=number,
        exchange_id=exchange_id,
        attempt=attempt,
        lease_until=from_micros(lease_until),
        message_id=MessageId.unchecked(message_id),
        sender=AgencyCode.unchecked(sender),
        receiver=AgencyCode.unchecked(receiver),
        system=SystemCode.unchecked(system),
        service=ServiceCode.unchecked(service),
        service_version=service_version,
        pattern=Pattern(pattern),
        manifest_jws=manifest_jws,
        manifest_sha256=manifest_sha256,
        receipt_jws=receipt_jws,
        body=body if body is not None else b"",
        received_at=from_micros(received_at),
        traceparent=traceparent,
        attempts_before=attempts_before,
        retry_since=from_micros(retry_since),
        dossier=DossierCode.unchecked(dossier) if dossier else None,
    )


def _stalled(row: Any, now: datetime) -> Settlement:
    """The end of an attempt that nobody has ended; when it began is not known any more."""
    dies = row.pattern == Pattern.REQUEST_REPLY or row.attempt - row.attempts_before >= MOST_ATTEMPTS_WITHOUT_END
    leaf = None
    if dies:
        hash_, entry = entries.dead(
            message_id=row.message_id,
            manifest_sha256=row.manifest_sha256,
            receiver=row.receiver,
            attempts=row.attempt,
            reason="lease-ran-out",
            at=now,
        ).leaf()
        leaf = Leaf(hash=hash_, entry=entry)
    return Settlement(
        delivery_id=row.id,
        attempt=row.attempt,
        state=State.DEAD if dies else State.WAITING,
        started_at=now,
        finished_at=now,
        problem=_LEASE_RAN_OUT,
        due_at=None if dies else now,
        leaf=leaf,
    )


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else to_micros(moment)
