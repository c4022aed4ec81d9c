"""What a description offers: operations that could become services, and those that cannot, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.problem import Problem
from schemas.reasons import Wording


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation that the bus can call."""

    #: As the description calls it; ``--select`` names it so.
    name: str
    #: What its code is made of, where its name alone is not unique in the description.
    code_words: str
    #: What the description says of it, one line; may be empty.
    title: str
    one_way: bool
    schema: Mapping[str, Any] | str | None
    reply_schema: Mapping[str, Any] | str | None = None
    element: str = ""
    reply_element: str = ""
    #: ``soap`` or ``http`` of the manifest's ``provider``, without the WSDL.
    call: Mapping[str, Any] = field(default_factory=dict)
    #: The WSDL of this operation alone; empty for HTTP.
    wsdl: str = ""
    #: The provider's address for it, as the description has it.
    address: str = ""
    #: What the endpoint must prove and cannot be drafted into the service: settings of the connector.
    endpoint_settings: Mapping[str, Any] = field(default_factory=dict)
    #: What a person should know before applying, one sentence each.
    notes: tuple[Wording, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One operation that becomes no service, and why."""

    name: str
    problem: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All that a description offers, in its own order."""

    connector: str
    operations: tuple[Operation, ...]
    refusals: tuple[Refusal, ...]
