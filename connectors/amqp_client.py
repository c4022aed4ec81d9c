"""A member that takes its messages straight from the broker: unsealed, checked, acknowledged when they are kept.

::

    client = AgencyClient("https://bus.example.vn", key, system="H99.16/kho")
    with Mailbox("amqps://member:password@broker.example.vn:5671/", client, [key]) as mailbox:
        for message in mailbox.messages():
            save(message.body)      # first keep it, then acknowledge: the other order loses data
            message.ack()

Programs in other languages do the same with any AMQP 0-9-1 and any JOSE library; docs/amqp.md has the form.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pika
from pika.exceptions import AMQPError

from connectors.amqp import MANIFEST_TYPE, PAYLOAD_TYPE
from connectors.client import AgencyClient
from schemas.message import Manifest
from schemas.problem import Problem, ProviderUnavailable
from security.sealing import Unsealer, unseal

#: What the operator must mend: the message is good, the keys here are not enough to see it.
_NOT_ITS_FAULT = frozenset({"key-unknown", "sealed-for-another-key"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxMessage:
    """One message from the mailbox, unsealed and checked against the bus's receipt.

    It may come twice, with the same ``manifest.message_id``. :meth:`ack` after it is saved; until then, and when the
    connection ends, it comes again. What was given back twenty times lies in the queue ``lgsp.member.<system>.dead``.
    """

    manifest: Manifest
    manifest_jws: str
    receipt_jws: str
    traceparent: str
    body: bytes
    _channel: Any = field(repr=False, compare=False)
    _tag: int = field(repr=False, compare=False)

    def ack(self) -> None:
        """This is safely stored: the broker forgets it. Raises ProviderUnavailable when the connection is gone."""
        self._tell(lambda: self._channel.basic_ack(self._tag))

    def give_back(self) -> None:
        """To have it again later."""
        self._tell(lambda: self._channel.basic_nack(self._tag, requeue=True))

    def _tell(self, verdict: Any) -> None:
        try:
            verdict()
        except AMQPError:
            raise ProviderUnavailable("mailbox-unreachable") from None


class Mailbox:
    """The queue of one member. For one thread; connects at the first use."""

    def __init__(
        self, url: str, client: AgencyClient, keys: Sequence[Unsealer], *, prefetch: int = 20, authority_file: str = ""
    ) -> None:
        """``client`` checks with the bus's keys, of its system the messages are. ``keys``: those of the registered
        certificates, earlier ones too until what was sealed for them is fetched. ``authority_file``: who signed the
        broker's certificate, if not a public authority. At most ``prefetch`` messages come ahead."""
        self._parameters = pika.URLParameters(url)
        if url.startswith("amqps://") and authority_file:
            context = ssl.create_default_context(cafile=authority_file)
            self._parameters.ssl_options = pika.SSLOptions(context, self._parameters.host)
        self._client = client
        self._keys = tuple(keys)
        self._prefetch = prefetch
        self._connection: Any = None
        self._channel: Any = None

    def messages(self, *, wait_seconds: float = 20.0, follow: bool = True) -> Iterator[MailboxMessage]:
        """Messages, oldest first; without ``follow`` until none has come for ``wait_seconds``.

        One that is not what its receipt says is laid aside in the dead queue and not shown. Raises ProviderUnavailable
        ``mailbox-unreachable`` when the broker cannot be reached, does not let us in or is lost: begin again later.
        """
        try:
            channel = self._open()
            queue = f"lgsp.member.{self._client.system}"
            for method, properties, body in channel.consume(queue, inactivity_timeout=wait_seconds):
                if method is None:
                    if follow:
                        continue
                    break
                message = self._checked(channel, method.delivery_tag, properties, body)
                if message is None:
                    channel.basic_nack(method.delivery_tag, requeue=False)
                else:
                    yield message
        except (AMQPError, OSError):
            raise ProviderUnavailable("mailbox-unreachable") from None
        finally:
            # Whoever stops looking gets no more; what came may still be acknowledged.
            with suppress(AMQPError):
                if self._channel is not None and self._channel.is_open:
                    self._channel.cancel()

    def close(self) -> None:
        """What was not acknowledged goes back."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.is_open:
            connection.close()

    def __enter__(self) -> Mailbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> Any:
        if self._connection is None or not self._connection.is_open:
            self._connection, self._channel = pika.BlockingConnection(self._parameters), None
        if self._channel is None or not self._channel.is_open:
            self._channel = self._connection.channel()
            self._channel.basic_qos(prefetch_count=self._prefetch)
        return self._channel

    def _checked(self, channel: Any, tag: int, properties: Any, body: bytes) -> MailboxMessage | None:
        try:
            headers = properties.headers or {}
            receipt_jws = str(headers.get("lgsp-receipt", ""))
            manifest_jws = self._unsealed(str(headers.get("lgsp-manifest", "")), MANIFEST_TYPE).decode("ascii")
            payload = self._unsealed(body.decode("ascii"), PAYLOAD_TYPE)
            manifest = self._client.checked_manifest(manifest_jws, receipt_jws, payload)
        except UnicodeDecodeError:
            return None
        except ProviderUnavailable:  # the bus's keys could not be fetched
            raise
        except Problem as problem:
            if problem.reason in _NOT_ITS_FAULT:
                raise
            return None
        return MailboxMessage(
            manifest=manifest,
            manifest_jws=manifest_jws,
            receipt_jws=receipt_jws,
            traceparent=str(headers.get("traceparent", "")),
            body=payload,
            _channel=channel,
            _tag=tag,
        )

    def _unsealed(self, sealed: str, typ: str) -> bytes:
        return unseal(sealed, self._keys, typ=typ).content
