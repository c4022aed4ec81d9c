"""Refused messages that wait for a grant: kept sealed for some hours, where the province wants that.

As a rule the bus keeps no body of what it refused. But a message whose sender is proven and that lacked nothing but a
right (no grant, an expired one, another purpose) is as good as new once the right is there; with
``LGSP_REFUSED_KEPT_HOURS`` an administrator who mends the grant takes it on herself, and nobody at the sender's must
find out and send it again. What is kept is sealed under the master key, leaves with its hours, and goes at once when it
is taken on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from schemas.identifiers import AgencyCode, SystemCode
from schemas.message import Grade, Manifest, Means, Message, Principal
from schemas.problem import Malformed, Refused
from security.secrets import SecretBox
from security.signing import split_compact

#: Nothing was wrong with the message but that a right was missing.
MENDED_BY_GRANT: Final = frozenset(
    {"no-grant", "grant-expired", "grant-not-yet", "purpose-not-granted", "purpose-missing", "receiver-not-granted"}
)
#: Larger ones are sent again: these rows are no store of files.
MOST_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptMessage:
    """A sealed message, and until when it is kept."""

    sealed: bytes
    until: datetime


class RefusedMessages:
    """Seals and opens them. Immutable and safe under threads."""

    __slots__ = ("_box", "_hours")

    def __init__(self, box: SecretBox, hours: int) -> None:
        """``hours`` 0: nothing is kept."""
        self._box = box
        self._hours = hours

    def keep(self, problem: Refused, message: Message, now: datetime) -> KeptMessage | None:
        """What of this message is kept; None: nothing."""
        if not self._hours or problem.reason not in MENDED_BY_GRANT or len(message.body) > MOST_BYTES:
            return None
        principal = message.principal
        facts = {
            "manifest": message.manifest_jws,
            "manifest_sha256": message.manifest_sha256,
            "grade": message.grade.value,
            "agency": principal.agency,
            "system": principal.system,
            "means": principal.means.value,
            "key_id": principal.key_id,
            "traceparent": message.traceparent,
        }
        plain = json.dumps(facts).encode() + b"\n" + message.body
        sealed = self._box.seal(_name(message.manifest.message_id), plain)
        return KeptMessage(sealed=sealed, until=now + timedelta(hours=self._hours))

    def open(self, message_id: str, sealed: bytes, now: datetime) -> Message | None:
        """The message as it was identified, received now; None: it cannot be opened any more."""
        try:
            head, _, body = self._box.open(_name(message_id), sealed).partition(b"\n")
            facts = json.loads(head)
            manifest = Manifest.from_claims(json.loads(split_compact(facts["manifest"]).payload))
        except (Malformed, ValueError):
            return None
        return Message(
            manifest=manifest,
            manifest_jws=facts["manifest"],
            manifest_sha256=facts["manifest_sha256"],
            grade=Grade(facts["grade"]),
            principal=Principal(
                agency=AgencyCode(facts["agency"]),
                system=SystemCode(facts["system"]),
                means=Means(facts["means"]),
                key_id=facts["key_id"],
            ),
            body=body,
            received_at=now,
            traceparent=facts["traceparent"],
        )


def _name(message_id: str) -> str:
    return f"refused message {message_id}"
