"""The definitions that run here: those that ship with the bus and those of a folder, chosen by name in a setting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path

from bus.processes.definition import Definition, read_definition
from registry.directory import Directory
from schemas.problem import FieldError, Malformed
from schemas.reasons import Wording

_SUFFIX = ".bpmn"
_ABSENT = "chưa có trong danh mục"


def load_definitions(names: Iterable[str], folder: Path | None) -> list[Definition]:
    """The definitions of these names, in their order; one in the folder stands before one that ships.

    Raises Malformed: ``process-unknown`` for a name without a file, and those of ``read_definition``, with the file's
    name among the facts.
    """
    found = dict((*_shipped(), *_in_folder(folder)))
    return [_read(name, found.get(name)) for name in dict.fromkeys(names)]


def shipped() -> list[Definition]:
    """All that ship with the bus, by name."""
    return [_read(code, data) for code, data in sorted(_shipped())]


def in_folder(folder: Path | None) -> list[Definition]:
    """All of a folder, by name."""
    return [_read(code, data) for code, data in _in_folder(folder)]


def unfit(definition: Definition, directory: Directory) -> list[FieldError]:
    """What the registry lacks for this definition; empty: it can run."""
    errors: list[FieldError] = []
    for step in definition.steps.values():
        if step.service is not None and not directory.service_exists(step.service):
            rule = Wording(f"waits for {step.service}, which is not registered", f"chờ {step.service}, {_ABSENT}")
            errors.append(FieldError.worded(step.id, rule))
        if step.sending is None:
            continue
        sending = step.sending
        version = sending.version or directory.latest_version(sending.service)
        if version is None or directory.service(sending.service, version) is None:
            rule = Wording(f"sends {sending.service}, which is not registered", f"gửi {sending.service}, {_ABSENT}")
            errors.append(FieldError.worded(step.id, rule))
        if sending.receiver is not None and directory.agency(sending.receiver) is None:
            rule = Wording(
                f"sends to {sending.receiver}, which is not registered", f"gửi tới {sending.receiver}, {_ABSENT}"
            )
            errors.append(FieldError.worded(step.id, rule))
    return errors


def _read(name: str, data: bytes | None) -> Definition:
    if data is None:
        raise Malformed("process-unknown", name=name[:64])
    definition = read_definition(data)
    if definition.code != name:
        raise Malformed(
            "process-invalid",
            errors=[
                FieldError.worded(
                    definition.code,
                    Wording(f"must be called {name}, as its file", f"phải mang tên {name}, như tên tệp"),
                )
            ],
        )
    return definition


def _shipped() -> Iterator[tuple[str, bytes]]:
    for entry in files("schemas").joinpath("processes").iterdir():
        if entry.name.endswith(_SUFFIX):
            yield entry.name.removesuffix(_SUFFIX), entry.read_bytes()


def _in_folder(folder: Path | None) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.glob(f"*{_SUFFIX}")) if folder is not None else ():
        yield path.stem, path.read_bytes()
