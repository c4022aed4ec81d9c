"""The way out: steps 7 and 8 of a message's life, on one screen.

The same code delivers what the outbox holds and answers a request-reply call. No transaction and no lock is held while
a partner is called.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import random

from uuid6 import uuid7

from bus.bulkheads import Bulkheads
from bus.evidence import EvidenceWriter
from bus.logs import get_logger
from bus.records import Claim, Settlement, State, StoredReply
from bus.retry import RetryDecision, decide
from bus.spans import traced
from bus.translation import parcel_for
from connectors.base import Connector, Reply
from registry.contract import kind_of
from registry.directory import Directory, LiveDirectory
from registry.dossier_view import DossierFact, Heard
from registry.model import DeliveryMode, Endpoint, Pattern, RetryPolicy
from schemas.identifiers import MessageId
from schemas.message import Direction, Manifest, Means, Translation, sha256_hex
from schemas.moment import utc_now
from schemas.problem import InternalFailure, InvalidReply, Problem, ProviderFailure, ProviderUnavailable, Refused
from security.signing import sign_manifest, split_compact, verify_manifest

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one attempt ended: the partner's answer or the problem, never both."""

    reply: Reply | None = None
    stored: StoredReply | None = None
    #: What the answer says of dossiers.
    said: tuple[DossierFact, ...] = ()
    problem: Problem | None = None


class Delivery:
    """Delivers one claim at a time. One instance serves all threads of a process."""

    def __init__(
        self,
        *,
        directory: LiveDirectory,
        connectors: Mapping[str, Connector],
        secret: Callable[[str], bytes | None],
        bulkheads: Bulkheads,
        evidence: EvidenceWriter,
        settle: Callable[[Settlement], object],
        clock_skew_seconds: int = 300,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._directory = directory
        self._connectors = connectors
        self._secret = secret
        self._bulkheads = bulkheads
        self._evidence = evidence
        self._settle = settle
        self._clock_skew_seconds = clock_skew_seconds
        self._clock = clock

    def deliver(self, claim: Claim) -> Outcome:
        """Steps 7 and 8 for a claimed delivery whose place in the bulkhead is taken: call the receiver, write how it
        ended. Never raises for what the receiver did; the outcome says it. Raises when the end cannot be written (the
        registry or the store is out of reach): then the lease runs out."""
        started = time.monotonic()
        started_at = utc_now()
        outcome = self._call(claim)  # 7
        try:
            decision = self._end(claim, outcome, started_at)  # 8
        finally:
            self._bulkheads.leave(claim.system, healthy=_answered(outcome.problem))
        self._log(claim, outcome, decision, time.monotonic() - started)
        return outcome

    def give_up(self, claim: Claim, problem: Problem) -> None:
        """Settle a claim that was never tried (its system has no free place): for callers that wait themselves."""
        self._settle(self._settlement(claim, Outcome(problem=problem), RetryDecision(state=State.DEAD), utc_now()))

    # 7. Deliver: the receiver's connector makes the call; a reply must prove itself
    @traced("deliver")
    def _call(self, claim: Claim) -> Outcome:
        try:
            directory = self._directory.current()
            endpoint = self._endpoint(directory, claim)
            parcel = parcel_for(claim, directory, self._evidence.ring)
            secret = self._secret(endpoint.secret) if endpoint.secret else None
            reply = self._connectors[endpoint.connector].deliver(parcel, endpoint, secret)
            if claim.pattern is Pattern.ONE_WAY:
                return Outcome(reply=reply)
            stored = self._proven_reply(directory, claim, parcel.manifest, reply)
            return Outcome(
                reply=reply, stored=stored, said=_said_of_dossiers(directory, claim, parcel.manifest, reply, stored)
            )
        except Problem as problem:
            return Outcome(problem=problem)
        except Exception:
            log.exception("delivery.failed", delivery_id=claim.delivery_id, system=claim.system)
            return Outcome(problem=InternalFailure())

    # 8. Settle: delivered, again later, or dead
    @traced("settle")
    def _end(self, claim: Claim, outcome: Outcome, started_at: datetime) -> RetryDecision:
        decision = self._decide(claim, outcome.problem)
        self._settle(self._settlement(claim, outcome, decision, started_at))
        return decision

    def _decide(self, claim: Claim, problem: Problem | None) -> RetryDecision:
        if claim.pattern is Pattern.REQUEST_REPLY:  # the caller waits, and repeats the call itself
            return RetryDecision(state=State.DELIVERED if problem is None else State.DEAD)
        service = self._directory.current().service(claim.service, claim.service_version)
        return decide(
            problem,
            service.retry if service else RetryPolicy(),
            tries=claim.attempt - claim.attempts_before,
            since=claim.retry_since,
            now=self._clock(),
            random=random,
        )

    def _settlement(self, claim: Claim, outcome: Outcome, decision: RetryDecision, started_at: datetime) -> Settlement:
        now = utc_now()
        receipt_jws = leaf = None
        if outcome.reply is not None:
            receipt_jws, leaf = self._evidence.delivered(claim, now, outcome.reply.received)
        elif decision.state is State.DEAD and outcome.problem is not None:
            leaf = self._evidence.dead(claim, now, outcome.problem)
        return Settlement(
            delivery_id=claim.delivery_id,
            attempt=claim.attempt,
            state=decision.state,
            started_at=started_at,
            finished_at=now,
            problem=problem_facts(outcome.problem),
            due_at=decision.due_at,
            receipt_jws=receipt_jws,
            leaf=leaf,
            reply=outcome.stored,
            dossier_facts=outcome.said,
        )

    def _endpoint(self, directory: Directory, claim: Claim) -> Endpoint:
        system = directory.system(claim.system)
        if system is None or system.suspended:
            raise ProviderUnavailable("receiver-not-connected")
        endpoint = _MAILBOX if system.mode is DeliveryMode.AMQP else system.endpoint
        if endpoint is None:
            raise ProviderUnavailable("receiver-not-connected")
        if endpoint.connector not in self._connectors:
            raise ProviderUnavailable("connector-missing")
        # A call must end before its lease does, or another process would start the same delivery beside it.
        left = (claim.lease_until - utc_now()).total_seconds() - _MARGIN_SECONDS
        return endpoint if endpoint.timeout_seconds <= left else replace(endpoint, timeout_seconds=max(left, 0.1))

    def _proven_reply(self, directory: Directory, claim: Claim, request: Manifest, reply: Reply) -> StoredReply:
        """The reply, valid by its schema and in the caller's form, under a manifest: the provider's own where it signs
        the very bytes that the caller gets, else the bus's."""
        signed = reply.headers.get("lgsp-manifest", "")
        if signed:
            self._check_reply_manifest(claim, reply, signed)
        service = directory.service(claim.service, claim.service_version)
        form = None
        if service is not None:
            wanted = kind_of((request.translated or request).content_type)
            form = directory.contract_for(service).for_consumer(reply.body, reply.content_type, wanted)
        body, content_type = (form.body, form.content_type) if form else (reply.body, reply.content_type)
        original = None
        if form is not None or reply.original:
            original = StoredReply(manifest_jws=signed, content_type=reply.content_type, body=reply.received)
        jws = signed if signed and form is None else self._attest(claim, request, body, content_type, original)
        return StoredReply(manifest_jws=jws, content_type=content_type, body=body, original=original)

    def _check_reply_manifest(self, claim: Claim, reply: Reply, jws: str) -> None:
        try:
            manifest = verify_manifest(jws, self._directory, utc_now(), self._clock_skew_seconds).manifest
        except Refused:
            raise InvalidReply("reply-manifest-invalid") from None
        faithful = (
            manifest.direction is Direction.REPLY
            and manifest.sender == claim.receiver
            and manifest.request_manifest_sha256 == claim.manifest_sha256
            and manifest.body_sha256 == sha256_hex(reply.body)
        )
        if not faithful:
            raise InvalidReply("reply-manifest-invalid")

    def _attest(
        self, claim: Claim, request: Manifest, body: bytes, content_type: str, original: StoredReply | None
    ) -> str:
        manifest = Manifest(
            message_id=MessageId(str(uuid7())),
            direction=Direction.REPLY,
            sender=claim.receiver,
            receivers=(claim.sender,),
            service=claim.service,
            service_version=claim.service_version,
            issued_at=datetime.now(UTC).replace(microsecond=0),
            content_type=content_type or "application/octet-stream",
            body_sha256=sha256_hex(body),
            body_length=len(body),
            dossier=request.dossier,
            request_manifest_sha256=claim.manifest_sha256,
            # The bus called the provider's registered endpoint itself: it vouches for where the answer came from.
            attested_means=Means.CONNECTION,
            attested_system=claim.system,
            translated=None if original is None else _origin(original),
        )
        return sign_manifest(manifest, self._evidence.ring)

    def _log(self, claim: Claim, outcome: Outcome, decision: RetryDecision, elapsed_seconds: float) -> None:
        event = {
            State.DELIVERED: "delivery.delivered",
            State.WAITING: "delivery.rescheduled",
            State.DEAD: "delivery.died",
        }[decision.state]
        problem = {"problem": outcome.problem.slug, "reason": outcome.problem.reason} if outcome.problem else {}
        log.info(
            event,
            message_id=claim.message_id,
            system=claim.system,
            attempt=claim.attempt,
            duration_ms=round(elapsed_seconds * 1000, 1),
            trace_id=claim.traceparent[3:35],
            **problem,
        )


def _said_of_dossiers(
    directory: Directory, claim: Claim, request: Manifest, reply: Reply, stored: StoredReply
) -> tuple[DossierFact, ...]:
    """What a proven answer says, where its service's view looks at answers and nothing was translated: what is told of
    a dossier is what the provider wrote. An answer that names no dossier is about the one of the question."""
    service = directory.service(claim.service, claim.service_version)
    if service is None or service.dossier is None or service.dossier.reply is None or stored.body != reply.body:
        return ()
    heard = Heard(accepted_at=utc_now(), sender=claim.receiver, receiver=claim.sender, dossier=claim.dossier)
    contract = directory.contract_for(service)
    if heard.dossier is None:
        asked = contract.dossier_facts(claim.body, (request.translated or request).content_type, heard)
        heard = replace(heard, dossier=asked[0].dossier if len(asked) == 1 else None)
    return contract.reply_facts(stored.body, stored.content_type, heard)


def _origin(original: StoredReply) -> Translation:
    manifest = split_compact(original.manifest_jws).payload if original.manifest_jws else b""
    return Translation(
        content_type=original.content_type,
        sha256=sha256_hex(original.body),
        length=len(original.body),
        manifest_sha256=sha256_hex(manifest) if manifest else "",
    )


#: How a system in mode amqp is delivered to, whatever address it has besides.
_MAILBOX = Endpoint(connector="amqp", url="")
#: Time kept at the end of a lease for writing the settlement.
_MARGIN_SECONDS = 2.0


def lease_for_reply(timeout_seconds: float) -> timedelta:
    """How long a request-reply caller holds its delivery: its time-out and the margin that `deliver` keeps."""
    return timedelta(seconds=timeout_seconds + _MARGIN_SECONDS)


def problem_facts(problem: Problem | None) -> dict[str, object] | None:
    """A problem as it is stored: codes and facts, no wording, so that it can be told in any language later."""
    if problem is None:
        return None
    return {"problem": problem.slug, "reason": problem.reason, "facts": dict(problem.facts)}


def _answered(problem: Problem | None) -> bool:
    """Did the system answer at all? One that rejects a message is well, and a fault of ours is not its own."""
    return not (isinstance(problem, ProviderFailure) and problem.retryable)
