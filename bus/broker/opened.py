"""Which broker a delivery process works with: that of its settings."""

from __future__ import annotations

from bus.assembly import Bus
from bus.broker import Broker
from bus.broker.embedded import EmbeddedBroker


def open_broker(bus: Bus) -> Broker:
    """The store itself, or RabbitMQ where the settings name its nodes; then its connection is being made."""
    settings = bus.settings
    if not settings.broker_urls:
        return EmbeddedBroker(bus.ledger, settings.wake_folder, settings.lease_seconds)
    # pika is for those who need it.
    from bus.broker.queued import QueuedBroker

    broker = QueuedBroker(
        bus.ledger,
        bus.directory,
        settings.wake_folder,
        settings.broker_urls,
        lease_seconds=settings.lease_seconds,
        poll_seconds=settings.poll_seconds,
        authority_file=settings.broker_authority,
        most_to_hold=bus.bulkheads.most_to_hold,
    )
    broker.start()
    return broker
