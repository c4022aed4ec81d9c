"""The table of connectors: the name an endpoint is registered with, and what makes the connector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points

from connectors.amqp import AmqpConnector
from connectors.base import Connector, Mailboxes, Receiver, RemembersSecrets, SecretStore, UsesMailboxes
from connectors.business_registry import BusinessRegistryConnector
from connectors.civil_status import CivilStatusConnector, CivilStatusReceiver
from connectors.criminal_record import CriminalRecordConnector, CriminalRecordReceiver
from connectors.driver_licence import DriverLicenceConnector
from connectors.edoc import EdocConnector
from connectors.http import HttpClient, HttpSettings
from connectors.land import LandConnector, LandReceiver
from connectors.national_portal import NationalPortalConnector
from connectors.national_portal_2025 import NationalPortal2025Connector
from connectors.national_portal_inbound import NationalPortalReceiver
from connectors.one_stop import OneStopConnector
from connectors.paygov import PaygovConnector, PaygovReceiver
from connectors.payment import PaymentConnector, PaymentReceiver
from connectors.population import PopulationConnector
from connectors.post import PostConnector
from connectors.rest import RestConnector
from connectors.rest_receiver import RestReceiver
from connectors.result_store import ResultStoreConnector
from connectors.sms import SmsConnector, SmsReceiver
from connectors.soap import SoapConnector
from connectors.social_protection import SocialProtectionConnector
from connectors.zalo import ZaloConnector

#: Makes a connector around the process's one HTTP client.
ConnectorFactory = Callable[[HttpClient], Connector]

#: Installed packages add theirs under this entry point group: ``name = package.module:factory``.
ENTRY_POINT_GROUP = "lgsp.connectors"

CONNECTORS: dict[str, ConnectorFactory] = {
    "rest": RestConnector,
    "soap": SoapConnector,
    "amqp": AmqpConnector,
    "national_portal": NationalPortalConnector,
    "national_portal_2025": NationalPortal2025Connector,
    "result_store": ResultStoreConnector,
    "one_stop": OneStopConnector,
    "business_registry": BusinessRegistryConnector,
    "population": PopulationConnector,
    "paygov": PaygovConnector,
    "criminal_record": CriminalRecordConnector,
    "social_protection": SocialProtectionConnector,
    "edoc": EdocConnector,
    "driver_licence": DriverLicenceConnector,
    "payment": PaymentConnector,
    "civil_status": CivilStatusConnector,
    "land": LandConnector,
    "post": PostConnector,
    "sms": SmsConnector,
    "zalo": ZaloConnector,
}


#: What understands the calls of partners, by the same name as the connector of their system.
RECEIVERS: dict[str, Callable[[], Receiver]] = {
    "rest": RestReceiver,
    "paygov": PaygovReceiver,
    "criminal_record": CriminalRecordReceiver,
    "sms": SmsReceiver,
    "payment": PaymentReceiver,
    "national_portal": NationalPortalReceiver,
    "civil_status": CivilStatusReceiver,
    "land": LandReceiver,
}


def build_receivers() -> Mapping[str, Receiver]:
    """One receiver of each kind. Packages cannot add any: what may call in is for the bus to say."""
    return {name: make() for name, make in RECEIVERS.items()}


def build_connectors(
    settings: HttpSettings | None = None, secrets: SecretStore | None = None, mailboxes: Mailboxes | None = None
) -> Mapping[str, Connector]:
    """Every connector of this installation by name, sharing one HTTP client; ``secrets`` for those whose partners
    change theirs, ``mailboxes`` for those who deliver by the broker.

    A package cannot take the name of a connector that ships with the bus: what ``rest`` means is not for a dependency
    to change. Raises ValueError then, so that the process does not start.
    """
    http = HttpClient(settings)
    factories = dict(CONNECTORS)
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        if entry_point.name in factories:
            raise ValueError(f"connector {entry_point.name!r} is named twice")
        factories[entry_point.name] = entry_point.load()
    connectors = {name: make(http) for name, make in factories.items()}
    for connector in connectors.values():
        if secrets is not None and isinstance(connector, RemembersSecrets):
            connector.remember_in(secrets)
        if mailboxes is not None and isinstance(connector, UsesMailboxes):
            connector.put_into(mailboxes)
    return connectors
