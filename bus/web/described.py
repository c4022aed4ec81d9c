"""Routes that describe themselves: what a view is decorated with is what `/openapi.json` says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

View = TypeVar("View", bound=Callable[..., Any])

#: How a caller of an operation proves who it is.
Access = Literal["anyone", "token", "message"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A header or query parameter."""

    name: str
    place: Literal["header", "query"]
    meaning: str
    required: bool = False
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One response: its meaning, and the JSON Schema of its body (or another media type)."""

    meaning: str
    schema: Mapping[str, Any] | None = None
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What the API document says of a route. Problem documents are added for every operation."""

    tag: str
    summary: str
    description: str
    access: Access
    answers: Mapping[int, Answer]
    parameters: tuple[Parameter, ...] = ()
    #: Media type → JSON Schema of the request body.
    body: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: Slugs of the problems a caller should be ready for.
    problems: tuple[int, ...] = ()


def describe(
    tag: str,
    summary: str,
    *,
    access: Access,
    answers: Mapping[int, Answer],
    parameters: tuple[Parameter, ...] = (),
    body: Mapping[str, Mapping[str, Any]] | None = None,
    problems: tuple[int, ...] = (),
) -> Callable[[View], View]:
    """Attach an Operation to a view; its docstring becomes the description."""

    def attach(view: View) -> View:
        view.operation = Operation(  # type: ignore[attr-defined]  # functions carry attributes
            tag=tag,
            summary=summary,
            description=" ".join((view.__doc__ or "").split()),
            access=access,
            answers=answers,
            parameters=parameters,
            body=body or {},
            problems=problems,
        )
        return view

    return attach
