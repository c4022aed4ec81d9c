"""The registry as the bus reads it: a snapshot in memory that never changes, and the snapshot that is current.

A :class:`Directory` answers every question of the hot path by a look-up or two in a dictionary. It is never changed:
a change in the store makes a new one, and whoever holds the old one keeps a consistent picture until it asks again.
A :class:`LiveDirectory` holds the current one and refreshes it when the store's revision has moved.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

import structlog

from registry.contract import Contract
from registry.model import Agency, Certificate, Entry, Grant, Service, Stage, Subscription, System
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from schemas.problem import InternalFailure, Malformed
from schemas.validation import PayloadSchema
from security.certificates import key_record, read_certificate
from security.keys import PublicKeyRecord

log = structlog.get_logger(__name__)

#: Trees of real agencies are at most six groups deep (QĐ 20/2020); a longer chain is a loop that slipped in.
MAX_TREE_DEPTH = 32
#: Stages in which a version takes messages from everyone who has a grant.
OPEN_STAGES = frozenset({Stage.PUBLISHED, Stage.DEPRECATED})


class Directory:
    """Every agency, system, service, grant and subscription at one revision of the registry.

    Safe to share between threads: nothing in it changes but two memory caches (parsed keys, compiled contracts) whose
    entries are values, so that two threads that fill the same one lose nothing but the work.
    """

    __slots__ = (
        "_agency_by_name",
        "_ancestors",
        "_catch_all",
        "_certificates",
        "_children",
        "_contracts",
        "_grants",
        "_keys",
        "_latest",
        "_named",
        "agencies",
        "grants",
        "open_stages",
        "revision",
        "services",
        "subscriptions",
        "systems",
    )

    agencies: Mapping[AgencyCode, Agency]
    systems: Mapping[SystemCode, System]
    services: Mapping[tuple[ServiceCode, int], Service]
    grants: Mapping[str, Grant]
    subscriptions: Mapping[str, Subscription]

    def __init__(
        self,
        entries: Iterable[Entry] = (),
        *,
        revision: int = 0,
        sandbox_open: bool = False,
        earlier: Directory | None = None,
    ) -> None:
        """``sandbox_open``: services in stage *sandbox* take messages too (a test province; never in production).

        ``earlier``: the snapshot before this one; parsed keys and compiled schemas that are still right are taken over.
        """
        kinds = (Agency, System, Service, Grant, Subscription)
        sorted_in: dict[type, dict[object, Entry]] = {kind: {} for kind in kinds}
        for entry in entries:
            sorted_in[type(entry)][entry_key(entry)] = entry
        self.revision = revision
        self.open_stages = OPEN_STAGES | {Stage.SANDBOX} if sandbox_open else OPEN_STAGES
        self.agencies = MappingProxyType(sorted_in[Agency])  # type: ignore[arg-type]
        self.systems = MappingProxyType(sorted_in[System])  # type: ignore[arg-type]
        self.services = MappingProxyType(sorted_in[Service])  # type: ignore[arg-type]
        self.grants = MappingProxyType(sorted_in[Grant])  # type: ignore[arg-type]
        self.subscriptions = MappingProxyType(sorted_in[Subscription])  # type: ignore[arg-type]
        self._index_agencies()
        self._index_systems()
        self._index_services()
        self._index_grants()
        self._keys: dict[str, PublicKeyRecord] = {}
        self._contracts: dict[tuple[ServiceCode, int], Contract] = {}
        if earlier is not None:
            self._take_over(earlier)

    # Agencies

    def agency(self, code_or_alias: str) -> Agency | None:
        """The agency of this code, of a registered alias, or of the old spelling of a code (QCVN 102:2016)."""
        known = self._agency_by_name.get(code_or_alias)
        if known is None and code_or_alias[:1].isdigit():
            known = self._agency_by_name.get(_new_spelling(code_or_alias))
        return known

    def children(self, code: AgencyCode) -> tuple[Agency, ...]:
        """The agencies directly below, in order of their codes."""
        return self._children.get(code, ())

    def ancestors(self, code: AgencyCode) -> tuple[AgencyCode, ...]:
        """The agencies above, nearest first. By registered parents: a code says nothing of who answers to whom."""
        return self._ancestors.get(code, ())

    # Systems and keys

    def system(self, code: str) -> System | None:
        return self.systems.get(code)  # type: ignore[call-overload, no-any-return]

    def may_send(self, system: SystemCode | None, service: ServiceCode) -> bool:
        """Is this service among those that the system is there for? Grants are another question."""
        held = None if system is None else self.systems.get(system)
        return held is None or not held.sends or service in held.sends

    def systems_of(self, agency: AgencyCode) -> tuple[System, ...]:
        return tuple(system for system in self.systems.values() if system.agency == agency)

    def system_for(self, receiver: AgencyCode, service: ServiceCode) -> System | None:
        """The system that takes messages of this service for this agency; None when there is none.

        The system that names the service, else the one that names none. A system that is suspended takes nothing, and
        what it names falls to nobody else: mail of the civil status office must not land in the land office's system
        because the first one is switched off. Where two systems would fit, neither is guessed.
        """
        system = self._named.get((receiver, service)) or self._catch_all.get(receiver)
        return None if system is None or system.suspended else system

    def find_key(self, key_id: str) -> PublicKeyRecord | None:
        """The registered key of this RFC 7638 thumbprint (``security.keys.KeyDirectory``).

        Keys of a suspended system are not found. Expired and revoked ones are, with their dates: the verifier decides,
        because a signature made before the revocation stays good.
        """
        known = self._keys.get(key_id)
        if known is None and key_id in self._certificates:
            system, certificate = self._certificates[key_id]
            known = self._keys[key_id] = _key_record(system, certificate, self._hidden_children(system))
        return known

    # Services

    def service(self, code: ServiceCode, version: int) -> Service | None:
        return self.services.get((code, version))

    def service_exists(self, code: ServiceCode) -> bool:
        """Is there any version of it, in whatever stage?"""
        return code in self._latest

    def latest_version(self, code: ServiceCode) -> int | None:
        """The highest version that is open to callers; a draft, sandbox or retired one is not offered."""
        return self._latest.get(code)

    def contract_for(self, service: Service) -> Contract:
        """Both sides of a service, compiled once. Raises Malformed for a schema or a mapping that is none."""
        place = (service.code, service.version)
        contract = self._contracts.get(place)
        if contract is None:
            contract = self._contracts[place] = Contract(service)
        return contract

    def schema_for(self, service: Service) -> PayloadSchema:
        """What a consumer's request payload is checked against. Raises Malformed for a schema that is none."""
        return self.contract_for(service).request

    def reply_schema_for(self, service: Service) -> PayloadSchema:
        """What a consumer's reply payload is checked against."""
        return self.contract_for(service).reply

    # Grants

    def grants_for(self, sender: AgencyCode, service: ServiceCode) -> tuple[Grant, ...]:
        """The grants under which this agency may use this service: its own, then those its ancestors share, nearest
        first. Dates, purposes and receivers are not looked at."""
        by_grantee = self._grants.get(service)
        if by_grantee is None:
            return ()
        found = by_grantee.get(sender, ())
        for ancestor in self._ancestors.get(sender, ()):
            above = by_grantee.get(ancestor)
            if above is not None:
                found += tuple(grant for grant in above if grant.include_children)
        return found

    def warm(self) -> None:
        """Parse every key and compile every open schema now, so that no message pays for it.

        What cannot be parsed or compiled is named in the log and fails again, alone, when a message needs it: one bad
        schema must not hold back a withdrawn grant.
        """
        for key_id, (system, _) in self._certificates.items():
            try:
                self.find_key(key_id)
            except (Malformed, ValueError):
                log.error("registry.key_unreadable", system=system.code)
        for service in self.services.values():
            if service.stage in self.open_stages:
                try:
                    self.contract_for(service).warm()
                except Malformed as problem:
                    log.error("registry.schema_unusable", service=service.key, reason=problem.reason)

    # Building

    def _index_agencies(self) -> None:
        self._agency_by_name: dict[str, Agency] = {}
        children: dict[AgencyCode, list[Agency]] = defaultdict(list)
        for code in sorted(self.agencies):
            agency = self.agencies[code]
            self._agency_by_name.update(dict.fromkeys(agency.aliases, agency))
            if agency.parent is not None:
                children[agency.parent].append(agency)
        # Codes after aliases: should an alias ever equal a code, the code wins.
        self._agency_by_name.update(self.agencies.items())
        self._children = {parent: tuple(below) for parent, below in children.items()}
        self._ancestors = {code: self._climb(agency) for code, agency in self.agencies.items()}

    def _climb(self, agency: Agency) -> tuple[AgencyCode, ...]:
        chain: list[AgencyCode] = []
        above = agency.parent
        while above is not None and len(chain) < MAX_TREE_DEPTH:
            chain.append(above)
            parent = self.agencies.get(above)
            above = parent.parent if parent else None
        return tuple(chain)

    def _index_systems(self) -> None:
        self._certificates: dict[str, tuple[System, Certificate]] = {}
        named: dict[tuple[AgencyCode, ServiceCode], list[System]] = defaultdict(list)
        catch_all: dict[AgencyCode, list[System]] = defaultdict(list)
        for system in self.systems.values():
            if not system.suspended:
                self._certificates.update({known.key_id: (system, known) for known in system.certificates})
            if system.sends_only:
                continue
            for service in system.receives:
                named[system.agency, service].append(system)
            if not system.receives:
                catch_all[system.agency].append(system)
        self._named = {use: systems[0] for use, systems in named.items() if len(systems) == 1}
        self._catch_all = {agency: systems[0] for agency, systems in catch_all.items() if len(systems) == 1}

    def _index_services(self) -> None:
        self._latest: dict[ServiceCode, int | None] = {}
        for code, version in sorted(self.services):
            is_open = self.services[code, version].stage in self.open_stages
            self._latest[code] = version if is_open else self._latest.get(code)

    def _index_grants(self) -> None:
        self._grants: dict[ServiceCode, dict[AgencyCode, tuple[Grant, ...]]] = {}
        for grant in self.grants.values():
            by_grantee = self._grants.setdefault(grant.service, {})
            by_grantee[grant.grantee] = (*by_grantee.get(grant.grantee, ()), grant)

    def _hidden_children(self, system: System) -> frozenset[AgencyCode]:
        """Agencies below by registered parent whose codes do not show it (merged communes keep their old codes)."""
        if not system.speaks_for_children:
            return frozenset()
        below = (code for code, chain in self._ancestors.items() if system.agency in chain)
        return frozenset(code for code in below if not code.startswith(f"{system.agency}."))

    def _take_over(self, earlier: Directory) -> None:
        for place, contract in list(earlier._contracts.items()):
            before, now = earlier.services.get(place), self.services.get(place)
            if before and now and _contract_facts(before) == _contract_facts(now):
                self._contracts[place] = contract
        for key_id, record in list(earlier._keys.items()):
            # Whom a one-stop speaks for depends on the tree as well: such a record is always made anew.
            kept = not record.speaks_for_children and self._certificates.get(key_id) == earlier._certificates[key_id]
            if kept:
                self._keys[key_id] = record


def entry_key(entry: Entry) -> object:
    """What tells an entry from its neighbours of the same kind."""
    if isinstance(entry, Service):
        return (entry.code, entry.version)
    return entry.id if isinstance(entry, Grant | Subscription) else entry.code


def _new_spelling(old: str) -> str:
    try:
        return AgencyCode.parse(old)
    except Malformed:
        return ""


def _contract_facts(service: Service) -> tuple[object, ...]:
    return (
        service.schema,
        service.reply_schema,
        service.element,
        service.reply_element,
        service.content_types,
        service.provider,
    )


def _key_record(system: System, certificate: Certificate, also: frozenset[AgencyCode]) -> PublicKeyRecord:
    record = key_record(
        read_certificate(certificate.pem),
        system.code,
        revoked_at=certificate.revoked_at,
        speaks_for_children=system.speaks_for_children,
    )
    return replace(record, also_speaks_for=also) if also else record


class DirectorySource(Protocol):
    """Where snapshots come from; the registry's store is one."""

    def revision(self) -> int: ...

    def load(self, *, sandbox_open: bool = False, earlier: Directory | None = None) -> Directory: ...


class LiveDirectory:
    """The current snapshot, never older than the refresh period (in seconds) while the store answers.

    When the store fails, the last snapshot serves on for ``outlive_seconds``: accepted rights are better than none
    during a restart of the database. After that every question is refused with an InternalFailure, because a grant
    that was withdrawn must not live for ever. Safe under threads: one of them refreshes, the others read on.
    """

    def __init__(
        self,
        source: DirectorySource,
        refresh_seconds: float = 1.0,
        *,
        outlive_seconds: float = 300.0,
        sandbox_open: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads nothing yet: the first question does."""
        self._source = source
        self._refresh_seconds = refresh_seconds
        self._outlive_seconds = outlive_seconds
        self._sandbox_open = sandbox_open
        self._clock = clock
        self._lock = threading.Lock()
        #: What is answered from; None before the first load and when the last one is too old to be trusted.
        self._snapshot: Directory | None = None
        #: The last one that was read, trusted or not.
        self._held: Directory | None = None
        self._due_at = 0.0
        self._fresh_at = 0.0

    def current(self) -> Directory:
        """The snapshot to decide one message by; take it once per message and keep it."""
        snapshot, now = self._snapshot, self._clock()
        if snapshot is not None and now < self._due_at:
            return snapshot
        return self._refreshed(now)

    def find_key(self, key_id: str) -> PublicKeyRecord | None:
        return self.current().find_key(key_id)

    def latest_version(self, code: ServiceCode) -> int | None:
        return self.current().latest_version(code)

    def refresh(self) -> Directory:
        """Look at the store now, whatever the period says (after a change made by this very process)."""
        self._due_at = 0.0
        return self._refreshed(self._clock())

    def _refreshed(self, now: float) -> Directory:
        # Only a missing snapshot is waited for; otherwise, whoever finds the lock taken reads the old one.
        snapshot = self._snapshot
        if not self._lock.acquire(blocking=snapshot is None) and snapshot is not None:
            return snapshot
        try:
            if now >= self._due_at:
                self._look_at_the_store(now)
            snapshot = self._snapshot
        finally:
            self._lock.release()
        if snapshot is None:
            raise InternalFailure("registry-unreachable")
        return snapshot

    def _look_at_the_store(self, now: float) -> None:
        self._due_at = now + self._refresh_seconds
        held = self._held
        try:
            if held is None or self._source.revision() != held.revision:
                held = self._source.load(sandbox_open=self._sandbox_open, earlier=held)
                held.warm()
                log.info("registry.refreshed", revision=held.revision)
            self._held = self._snapshot = held
            self._fresh_at = now
        except Exception as failure:
            # Whatever the store's driver raises: the old snapshot is the answer, as long as it may be.
            log.error("registry.refresh_failed", failure=type(failure).__name__)
            if now - self._fresh_at > self._outlive_seconds:
                self._snapshot = None
