"""Backup and restore: what comes back is what was there, proven, on either store; and nothing else is ever taken."""

from __future__ import annotations

import hashlib
import stat
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from bus.assembly import Bus, open_bus
from bus.backup.checking import check_backup
from bus.backup.making import make_backup
from bus.backup.rows import filling
from bus.bundles import bundle_of, trust_of
from bus.logs import no_logs
from bus.records import State
from bus.retention import SMALLEST_PART, Retention
from bus.setup import initialise
from schemas.moment import utc_now
from schemas.problem import Malformed, NotFound, Problem
from security.evidence.checkpoint import NoteKey, sign_checkpoint
from security.evidence.log import EvidenceLog
from security.sealed_stream import Passphrase
from security.secrets import SecretBox
from security.verifier import Trust, verify_bundle
from tests.backed_up import (
    ANSWER,
    DELIVERED_PAPER,
    KEY,
    OTHER_KEY,
    PAPER,
    Forged,
    Lived,
    Open,
    Stores,
    all_rows,
    back_up,
    bring_back,
    claims,
    end,
    files_below,
    forge,
    live,
    log_key_of,
    place,
    provider,
    take,
)
from tests.bus_world import RECEIVING, SENDER, World, bus_world
from tests.ledger_house import House
from tests.loopback import serving


@pytest.fixture
def stores(request: pytest.FixtureRequest) -> Stores:
    return Stores(request)


BOTH = pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.service)], indirect=True)


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """The store that `world` lives on."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def world(kind: str, stores: Stores, tmp_path: Path) -> Iterator[World]:
    facts = {"store_url": url} if (url := stores.ready(kind)) else {}
    with no_logs(), serving(provider) as partner, bus_world(tmp_path / "old", partner_url=partner.url, **facts) as made:
        yield made


# ── there and back ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("to", ["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
@BOTH
def test_what_comes_back_is_what_was_there_on_whichever_store(
    world: World, stores: Stores, opened: Open, tmp_path: Path, to: str
) -> None:
    lived = live(world)
    before = all_rows(world.bus)
    made = back_up(world, tmp_path / "b")
    settings = place(tmp_path / "new", stores.empty(to))
    restored = bring_back(tmp_path / "b", settings)
    bus = opened(settings)
    after = all_rows(bus)
    for table in ("deliveries", "outbox"):  # what was under way is due again, see below
        assert len(before.pop(table)) == len(after.pop(table))
    assert after == before
    assert files_below(settings.key_folder) == files_below(world.settings.key_folder)
    assert files_below(settings.attachment_folder) == files_below(world.settings.attachment_folder)
    assert (restored.entries, restored.messages, restored.bodies, restored.attachments) == (made.entries, 6, 6, 2)
    assert restored.deliveries == {"delivered": 2, "dead": 1, "delivering": 1, "waiting": 2}
    assert bus.secrets.open("csdl", bus.registry.secret("csdl") or b"") == b"mat-khau"
    # It goes on: numbers, log and registry continue where they were.
    went_on(world, bus, lived)


def went_on(world: World, bus: Bus, lived: Lived) -> None:
    again = take(bus, lived.delivered)
    assert again.repeated
    assert again.receipt == take(world, lived.delivered).receipt
    assert bus.calls.answer(take(bus, lived.called)).body == ANSWER
    taken = take(bus, world.signed({"title": "Sau khi khôi phục"}))
    assert not taken.repeated
    [dead] = bus.ledger.dead()
    assert bus.ledger.replay([dead.delivery_id], "test", "sau khôi phục", utc_now())[0] == 2
    bus.registry.put_secret("moi", b"x", "test")
    bus.seal_evidence(utc_now())
    with bus.store.reading() as connection:
        assert bus.log.verify_all(connection).faults == ()
    # A proof written here is believed by those who got the trust file there.
    record = bus.ledger.find(lived.delivered.manifest.message_id)
    assert record is not None
    assert verify_bundle(bundle_of(bus, record, with_body=True), Trust.read(trust_of(world.bus))).holds


@BOTH
def test_what_was_under_way_is_due_again(world: World, stores: Stores, opened: Open, tmp_path: Path, kind: str) -> None:
    lived = live(world)
    now = utc_now()
    [held] = world.bus.ledger.hold_due([], {RECEIVING: 10}, now, now + timedelta(seconds=15))
    world.bus.ledger.hold_due([held], {}, now, now)  # the reference lies in a queue that does not come back
    assert not world.bus.ledger.has_due(RECEIVING, now)
    back_up(world, tmp_path / "b")
    settings = place(tmp_path / "new", stores.empty(kind))
    bring_back(tmp_path / "b", settings)
    bus = opened(settings)
    assert bus.ledger.release_stalled(utc_now()) == 1
    found = {claim.message_id: claim.attempt for claim in claims(bus)}
    assert found == {lived.under_way.manifest.message_id: 2, lived.waiting.manifest.message_id: 1}


@BOTH
def test_a_backup_is_one_moment_while_messages_come_in(
    world: World, stores: Stores, opened: Open, tmp_path: Path, kind: str
) -> None:
    """Four senders, a deliverer and a sealer go on throughout; what was acknowledged before the backup is in it."""
    bus, acknowledged, stopping = world.bus, [], threading.Event()
    messages = [world.signed({"title": "x" * 150}, dossier=f"H99.15-261121-{n % 7:04}") for n in range(400)]
    waiting = list(messages)

    def send() -> None:
        while not stopping.is_set() and waiting:
            message = waiting.pop()
            take(world, message)
            acknowledged.append(message.manifest.message_id)

    def deliver() -> None:
        while not stopping.is_set():
            for claim in claims(bus, most=5):
                end(bus, claim, State.DELIVERED)
            bus.seal_evidence(utc_now())

    threads = [*(threading.Thread(target=send) for _ in range(4)), threading.Thread(target=deliver)]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 60 and any(thread.is_alive() for thread in threads[:4]):
        time.sleep(0.002)
    before = list(acknowledged)
    seen: list[int] = []

    def others_go_on(*_: object) -> None:
        """Called with the store open at one moment: two more are acknowledged before the reading goes on."""
        if not seen:
            seen.append(len(acknowledged))
            patience_ends = time.monotonic() + 30
            while len(acknowledged) < seen[0] + 2 and time.monotonic() < patience_ends:
                time.sleep(0.002)
            seen.append(len(acknowledged))

    made = back_up(world, tmp_path / "b", progress=others_go_on)
    stopping.set()
    for thread in threads:
        thread.join()
    assert seen[1] >= seen[0] + 2, "nobody waits for a backup"
    settings = place(tmp_path / "new", stores.empty(kind))
    restored = bring_back(tmp_path / "b", settings)
    assert len(before) <= restored.messages < len(acknowledged)
    assert restored.entries == made.entries
    house = House(store_url=settings.effective_store_url, ring=bus.ring, log_key=log_key_of(settings))
    with house.store.writing() as connection:  # give the leases back, as the first `lgsp work` does
        connection.execute(text("SELECT 1"))
    house.ledger.release_stalled(utc_now())
    house.must_hold()
    house.close()
    here = opened(settings)
    assert all(here.ledger.find(message_id) for message_id in before)
    lost = [message for message in messages if here.ledger.find(message.manifest.message_id) is None]
    assert all(not take(here, message).repeated for message in lost[:5]), "their senders may send them again"


def test_a_backup_may_be_sealed_for_a_phrase_and_for_keys(world: World, tmp_path: Path) -> None:
    phrase = Passphrase(b"correct horse battery", log_n=4)
    make_backup(
        world.settings, world.bus.store, world.bus.log, tmp_path / "b",
        [phrase, KEY.recipient, OTHER_KEY.recipient],
    )  # fmt: skip
    for opener in (phrase, KEY, OTHER_KEY):
        with (tmp_path / "b").open("rb") as file:
            assert check_backup(file, opener).size == 0
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        back_up(world, tmp_path / "b")


def test_nothing_of_a_message_can_be_read_in_the_file(world: World, tmp_path: Path) -> None:
    lived = live(world)
    back_up(world, tmp_path / "b")
    data = (tmp_path / "b").read_bytes()
    for secret in (lived.delivered.manifest.message_id, "khai sinh", "giay khai sinh", "H99.15", "PRIVATE", "dossier"):
        assert secret.encode() not in data


def test_the_keys_are_those_of_the_moment(world: World, tmp_path: Path) -> None:
    """A master key that is rotated, and the old one dropped, between the look at the keys and that at the store."""
    box = world.bus.secrets
    world.bus.registry.put_secret("csdl", box.seal("csdl", b"mat-khau"), "test")

    class Meddled(EvidenceLog):
        looks = 0

        def head(self, connection: Connection) -> tuple[int, bytes]:
            if not Meddled.looks:
                Meddled.looks += 1
                new = SecretBox.rotate(world.settings.master_key_path)
                world.bus.registry.put_secret("csdl", new.reseal("csdl", box.seal("csdl", b"mat-khau")), "test")
                SecretBox.drop_old(world.settings.master_key_path)
            return super().head(connection)

    log = Meddled(world.bus.log.origin, log_key_of(world.settings))
    make_backup(world.settings, world.bus.store, log, tmp_path / "b", [KEY.recipient])
    settings = place(tmp_path / "new")
    bring_back(tmp_path / "b", settings)
    bus = open_bus(settings)
    try:
        assert bus.secrets.open("csdl", bus.registry.secret("csdl") or b"") == b"mat-khau"
    finally:
        bus.close()


@BOTH
def test_without_bodies_what_must_still_go_out_stays(
    world: World, stores: Stores, opened: Open, tmp_path: Path, kind: str
) -> None:
    lived = live(world)
    back_up(world, tmp_path / "b", bodies=False)
    settings = place(tmp_path / "new", stores.empty(kind))
    restored = bring_back(tmp_path / "b", settings)
    assert (restored.messages, restored.bodies, restored.attachments, restored.missing_count) == (6, 4, 1, 0)
    bus = opened(settings)
    assert [path.read_bytes() for path in settings.attachment_folder.rglob("*") if path.is_file()] == [PAPER]
    bus.ledger.release_stalled(utc_now())
    assert {claim.body for claim in claims(bus)} == {lived.under_way.body, lived.waiting.body}
    # What was delivered is proven all the same; its file would be asked for again.
    record = bus.ledger.find(lived.delivered.manifest.message_id)
    assert record is not None
    assert verify_bundle(bundle_of(bus, record, with_body=True), Trust.read(trust_of(world.bus))).holds
    with pytest.raises(NotFound):
        bus.attachments.progress(hashlib.sha256(DELIVERED_PAPER).hexdigest(), SENDER)
    with pytest.raises(NotFound) as gone:
        bus.calls.answer(take(bus, lived.called))
    assert gone.value.reason == "reply-erased"


def test_a_damaged_disk_is_told_and_does_not_keep_the_rest_from_safety(world: World, tmp_path: Path) -> None:
    live(world)
    missing, damaged = (hashlib.sha256(data).hexdigest() for data in (PAPER, DELIVERED_PAPER))
    folder = world.settings.attachment_folder
    (folder / missing[:2] / missing).unlink()
    (folder / damaged[:2] / damaged).write_bytes(DELIVERED_PAPER[:-1] + b"!")
    made = back_up(world, tmp_path / "b")
    assert (made.missing_count, set(made.missing)) == (2, {missing, damaged})
    settings = place(tmp_path / "new")
    restored = bring_back(tmp_path / "b", settings)
    assert (restored.missing_count, set(restored.missing)) == (2, {missing, damaged})
    assert files_below(settings.attachment_folder) == {}


def test_a_backup_of_an_older_program_is_brought_up_to_date(world: World, opened: Open, tmp_path: Path) -> None:
    lived = live(world)
    back_up(world, tmp_path / "b")

    def older(part: Forged) -> None:
        part.left_out = part.name in (
            *("nodes", "breakers", "duties", "used_proofs", "store_marks"),  # of 0007
            "evidence_timestamps",  # of 0010
            *("subscriptions", "event_cursors"),  # of 0011
            *("people", "person_sessions", "audit_events", "flow_hours"),  # of 0012
            *("search_keys", "refusal_details", "refused_messages"),  # of 0013
            *("bulk_jobs", "bulk_moved"),  # of 0014
            *("alert_rules", "alert_incidents", "alert_notices"),  # of 0015
            *("flow_days", "month_figures", "months_made"),  # of 0016
            *("access_requests", "registry_drafts"),  # of 0017
        )
        # 0006 and 0011 added these columns.
        added = {"outbox": "queued_at", "registry_events": "concerns", "dossier_events": "position"}.get(part.name)
        if added:
            place_of = part.columns.index(added)
            part.columns.remove(added)
            part.rows = [[value for at, value in enumerate(row) if at != place_of] for row in part.rows]

    forge(tmp_path / "b", tmp_path / "older", older, revision="0005")
    settings = place(tmp_path / "new")
    bring_back(tmp_path / "older", settings)
    assert [claim.message_id for claim in claims(opened(settings))] == [lived.waiting.manifest.message_id]


def test_a_store_that_was_not_migrated_is_not_backed_up(world: World, tmp_path: Path) -> None:
    with world.bus.store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0005'"))
    with pytest.raises(Malformed) as refused:
        back_up(world, tmp_path / "b")
    assert refused.value.reason == "backup-tables-differ"
    assert not (tmp_path / "b").exists()


@pytest.mark.service
def test_a_large_store_comes_back_in_parts(stores: Stores, opened: Open, tmp_path: Path) -> None:
    """Its messages lie in parts that may go in one piece, and new parts can be made behind them."""
    settings, many = place(tmp_path / "new", stores.empty("postgresql")), 5 * SMALLEST_PART + 7
    with filling(settings, "head", size=many, replace=False) as connection:
        for number in (0, SMALLEST_PART, many - 1):
            connection.execute(
                text(
                    "INSERT INTO exchanges VALUES (:id, :name, '', '', '', '', '', '', '', 1, '', '', NULL, 0, '')"
                ), {"id": number, "name": str(number)},
            )  # fmt: skip
            connection.execute(text("INSERT INTO payloads VALUES (:id, '')"), {"id": number})
        assert connection.execute(text("SELECT COUNT(*) FROM payloads_rest")).scalar() == 0
        connection.execute(text("INSERT INTO evidence_head VALUES ('appended', :many)"), {"many": many})
    initialise(settings)
    bus = opened(settings)
    retention = Retention(bus.store, bus.log, bodies_months=0, events_months=0)
    assert retention.make_room(utc_now()) > 0


# ── witnesses ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_witnessed_checkpoint_tells_what_was_lost(world: World, tmp_path: Path) -> None:
    live(world)
    early = world.bus.seal_evidence(utc_now())
    back_up(world, tmp_path / "b")
    take(world, world.signed())
    take(world, world.signed())
    late = world.bus.seal_evidence(utc_now())
    assert early is not None
    assert late is not None

    def told(note: str, **facts: Any) -> tuple[int, int]:
        with (tmp_path / "b").open("rb") as file:
            witnessed = check_backup(file, KEY, witness=note, **facts).witnessed
        assert witnessed is not None
        return witnessed.size, witnessed.missing

    assert told(early.note) == (early.size, 0)
    assert told(late.note) == (late.size, 2)
    trust = Trust.read(trust_of(world.bus))
    assert told(late.note, trust=trust) == (late.size, 2)
    key = log_key_of(world.settings)
    origin, size = key.name, early.size
    refused = {
        "backup-evidence-broken": [
            sign_checkpoint(origin, size, bytes(32), key).note,
            sign_checkpoint(origin, 3, bytes(32), key).note,
            sign_checkpoint(origin, 0, bytes(32), key).note,
        ],
        "backup-checkpoint-unknown": [
            sign_checkpoint(origin, size, early.root, NoteKey.generate(origin)).note,
            early.note.replace(str(size), str(size - 1), 1),
            "nonsense",
            "",
        ],
    }
    for reason, notes in refused.items():
        for note in notes:
            settings = place(tmp_path / "new")
            with pytest.raises(Malformed) as problem:
                bring_back(tmp_path / "b", settings, witness=note)
            assert problem.value.reason == reason, note
            assert not settings.home.exists()


def test_a_backup_that_somebody_else_made_is_known_by_the_trust_file(world: World, tmp_path: Path) -> None:
    """Anybody may seal for a public key: a whole bus of theirs, evidence and all."""
    live(world)
    back_up(world, tmp_path / "b")
    with bus_world(tmp_path / "other") as theirs:
        theirs_key = NoteKey.generate(world.settings.log_origin)
        trust = Trust.read(trust_of(theirs.bus))
    trust.log_keys.clear()
    trust.log_keys.update(_log_keys_of(theirs_key))
    settings = place(tmp_path / "new")
    with pytest.raises(Malformed) as refused:
        bring_back(tmp_path / "b", settings, trust=trust)
    assert refused.value.reason == "backup-other-log"
    assert not settings.home.exists()
    bring_back(tmp_path / "b", settings, trust=Trust.read(trust_of(world.bus)))


def _log_keys_of(key: NoteKey) -> dict[tuple[str, bytes], Any]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    public = Ed25519PublicKey.from_public_bytes(key.verifier.public_key)
    return {(key.name, key.key_hash): public}


# ── where it may go ───────────────────────────────────────────────────────────────────────────────────────────────────


@BOTH
def test_evidence_is_never_replaced(world: World, stores: Stores, tmp_path: Path, kind: str) -> None:
    live(world)
    back_up(world, tmp_path / "b")
    before = all_rows(world.bus), files_below(world.settings.key_folder)
    for force in (False, True):
        with pytest.raises(Problem) as refused:
            bring_back(tmp_path / "b", world.settings, force=force)
        assert refused.value.reason == "restore-evidence-there"
    # Nor that of a store which another home works with.
    beside = place(tmp_path / "beside", world.settings.effective_store_url)
    with pytest.raises(Problem) as refused:
        bring_back(tmp_path / "b", beside, force=True)
    assert refused.value.reason == "restore-evidence-there"
    assert (all_rows(world.bus), files_below(world.settings.key_folder)) == before
    assert not world.settings.restore_mark_path.exists()


@BOTH
def test_a_bus_without_evidence_is_replaced_when_told_and_its_keys_are_kept(
    world: World, stores: Stores, opened: Open, tmp_path: Path, kind: str
) -> None:
    live(world)
    back_up(world, tmp_path / "b")
    settings = place(tmp_path / "new", stores.empty(kind))
    initialise(settings)
    own = files_below(settings.key_folder)
    with pytest.raises(Problem) as refused:
        bring_back(tmp_path / "b", settings)
    assert refused.value.reason == "restore-not-empty"
    assert refused.value.facts["held"] == "keys, tables"
    assert files_below(settings.key_folder) == own
    bring_back(tmp_path / "b", settings, force=True)
    [kept] = settings.home.glob("keys.before-restore-*")
    assert files_below(kept) == own
    assert len(all_rows(opened(settings))["exchanges"]) == 6


def test_a_home_that_holds_only_files_is_not_empty(world: World, tmp_path: Path) -> None:
    back_up(world, tmp_path / "b")
    for name in ("keys/ring/ring.json", "attachments/ab/x"):
        settings = place(tmp_path / name.partition("/")[0])
        (settings.home / name).parent.mkdir(parents=True)
        (settings.home / name).write_bytes(b"x")
        with pytest.raises(Problem) as refused:
            bring_back(tmp_path / "b", settings)
        assert refused.value.reason == "restore-not-empty"


@pytest.mark.parametrize(
    "facts, variable",
    [({"log_origin": "other.invalid/evidence"}, "LGSP_LOG_ORIGIN"), ({"system": "H99/khac"}, "LGSP_SYSTEM")],
)
def test_a_backup_comes_back_under_its_own_names(
    world: World, tmp_path: Path, facts: dict[str, str], variable: str
) -> None:
    back_up(world, tmp_path / "b")
    settings = place(tmp_path / "new", **facts)
    with pytest.raises(Malformed) as refused:
        bring_back(tmp_path / "b", settings)
    assert (refused.value.reason, refused.value.facts["variable"]) == ("restore-setting-differs", variable)
    assert not settings.home.exists()
