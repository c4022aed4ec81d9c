"""What a registration is checked for beyond the registry itself: that a connector will understand it.

The registry knows what a service looks like, and nothing of WSDL; a WSDL that cannot be used should be told to the one
who registers it, not found by the first message at night.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from connectors.soap import describe_wsdl
from registry.changes import Changes, subject_of
from registry.manifests import Document, plan
from registry.model import Service, SoapCall
from registry.store import RegistryStore
from schemas.problem import FieldError, Malformed, TooLarge
from schemas.reasons import Wording


def plan_registration(store: RegistryStore, documents: Iterable[Document]) -> Changes:
    """The steps to what the documents say (:func:`registry.manifests.plan`), each WSDL read and found usable.

    Raises Malformed: registry-manifest-invalid, registry-inconsistent with every place.
    """
    changes = plan(store.load(), documents)
    errors = [error for step in changes.steps for error in _call_faults(step.after)]
    if errors:
        raise Malformed("registry-inconsistent", errors=errors)
    return changes


def _call_faults(entry: object) -> Iterator[FieldError]:
    if not isinstance(entry, Service) or entry.provider is None or not isinstance(entry.provider.call, SoapCall):
        return
    call = entry.provider.call
    pointer = f"/Service/{subject_of(entry).replace('/', '~1')}/provider/soap"
    try:
        _, operation = describe_wsdl(call.wsdl).find(call.operation, call.port)
    except (Malformed, TooLarge) as problem:
        yield FieldError.worded(pointer, problem.wording())
        return
    element = entry.provider.element or entry.element
    if element and element != operation.request:
        rule = Wording(
            f"the operation takes {operation.request}, the service has {element}",
            f"thao tác nhận {operation.request}, còn dịch vụ khai {element}",
        )
        yield FieldError.worded(pointer, rule)
