"""The catalogue of administrative procedures: the national portal's beside a province's own, and where they differ.

::

    {"MATTHC": "1.003560", "TENTTHC": "Cấp giấy phép",
     "LINHVUCTHUCHIEN": [{"MALINHVUC", "TENLINHVUC"}],
     "CACHTHUCTHUCHIEN": [{"KENH": 1, "THOIGIAN": [{"THOIGIANGIAIQUYET": 15, "DONVITINH": "Ngày làm việc",
                                                    "PHILEPHI": [{"MAPHILEPHI": "LP01", "SOTIEN": 150000}]}]}],
     "KETQUATHUCHIEN": [{"MAKETQUA"}], "COQUANTHUCHIEN": [{"MADONVI"}],
     "THANHPHANHOSO": [{"TRUONGHOP", "GIAYTO": [{"MAGIAYTO", "TENGIAYTO"}]}], "TRANGTHAI": 1}

Source: vietnam.md 4.2 (OCPS-DVC). A local catalogue is written the same way and may leave out what it does not keep:
what one side does not state is not compared.

Procedures are matched by code and by nothing else. Names are no keys: "Cấp giấy phép" and "Cấp lại giấy phép" are two
procedures, two codes may bear one name, and a client that matches by likeness sends dossiers to the wrong one (P10).

All functions are pure.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from schemas.identifiers import ProcedureCode
from schemas.problem import Malformed
from schemas.text import nfc

#: ``TRANGTHAI`` of a procedure that is open to the public.
PUBLIC: Final = "1"
#: What is compared, in the order in which a report tells it: attribute → heading.
COMPARED: Final[Mapping[str, str]] = {
    "name": "tên",
    "field": "lĩnh vực",
    "days": "thời hạn",
    "fees": "phí, lệ phí",
    "components": "thành phần hồ sơ",
    "results": "kết quả",
    "agencies": "cơ quan thực hiện",
}
#: A cell that begins with one of these is a formula to a spreadsheet.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """One procedure as far as a catalogue states it; None stands for what it does not state.

    Sets are tuples of words in order, so that two catalogues that list the same in another order are the same.
    """

    code: str
    name: str = ""
    is_public: bool = True
    #: Code of the field (lĩnh vực).
    field: str | None = None
    #: ``channel: time unit``, as ``1: 15 Ngày làm việc``.
    days: tuple[str, ...] | None = None
    #: ``channel: fee amount``, as ``2: LP01 75000``; amounts are whole đồng.
    fees: tuple[str, ...] | None = None
    components: tuple[str, ...] | None = None
    results: tuple[str, ...] | None = None
    agencies: tuple[str, ...] | None = None

    @property
    def national_code(self) -> str:
        """The national procedure that this is, or is a province's variant of."""
        return ProcedureCode(self.code).national


class Change(NamedTuple):
    """One thing that two catalogues state differently."""

    field: str
    local: str
    national: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A procedure that both have, and what of it differs."""

    local: Procedure
    national: Procedure
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueDiff:
    """What a province must do to have the national catalogue; each part by code."""

    added: tuple[Procedure, ...]
    changed: tuple[Changed, ...]
    #: Here, and no longer there or no longer public there.
    withdrawn: tuple[Procedure, ...]
    #: Codes that one catalogue has twice: of the two the last one was compared.
    twice: tuple[str, ...]
    unchanged: int

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.changed or self.withdrawn or self.twice)


def read_procedure(document: Mapping[str, Any]) -> Procedure:
    """The procedure in a LayThuTuc result or in a local catalogue. Raises Malformed for one without a good code."""
    channels = _rows(document, "CACHTHUCTHUCHIEN")
    cases = _rows(document, "THANHPHANHOSO")
    fields = _rows(document, "LINHVUCTHUCHIEN")
    return Procedure(
        code=ProcedureCode(document.get("MATTHC")),
        name=_words(document.get("TENTTHC")),
        is_public=str(document.get("TRANGTHAI", PUBLIC)) == PUBLIC,
        field=None if fields is None else ", ".join(sorted(_words(row.get("MALINHVUC")) for row in fields)),
        days=None if channels is None else _in_order(_days(channels)),
        fees=None if channels is None else _in_order(_fees(channels)),
        components=None if cases is None else _in_order(_components(cases)),
        results=_codes(document, "KETQUATHUCHIEN", "MAKETQUA"),
        agencies=_codes(document, "COQUANTHUCHIEN", "MADONVI"),
    )


def read_procedures(document: Any) -> tuple[Procedure, ...]:
    """The procedures in a list, or in the ``result`` of an answer of the portal. Raises Malformed."""
    return tuple(read_procedure(row) for row in _documents(document))


def _documents(document: Any) -> tuple[Mapping[str, Any], ...]:
    rows = document.get("result") if isinstance(document, Mapping) else document
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise Malformed("catalogue-unreadable")
    return tuple(rows)


#: Puts a question to a service of the bus (its code and the payload) and returns the portal's answer as an object.
Ask = Callable[[str, Mapping[str, Any]], Any]


def list_catalogue(ask: Ask) -> tuple[Mapping[str, Any], ...]:
    """The documents of the national list. Raises Malformed for one that is none and, with ``catalogue-empty``, for an
    empty one: that is an answer that went wrong. What ``ask`` raises goes through."""
    listed = _documents(ask("procedure.list", {}))
    if not listed:
        raise Malformed("catalogue-empty")
    return listed


def pull_catalogue(ask: Ask, listed: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The national catalogue, document by document as the portal wrote it, each a good :func:`read_procedure`."""
    for document in listed:
        code = read_procedure(document).code
        # The answer is an array even for one procedure, and another procedure in it is none of this code's details.
        # What was listed and cannot be told is what the list says of it.
        told = _documents(ask("procedure.detail", {"maTTHC": code}))
        yield next((each for each in told if read_procedure(each).code == code), document)


def catalogue_diff(local: Iterable[Procedure], national: Iterable[Procedure]) -> CatalogueDiff:
    """What is added, changed and withdrawn, by code.

    A province's variant (``1.003560.000.00.00.H99``) is compared with the same code where the portal has it, and with
    its national procedure (``1.003560``) where not. Raises Malformed ``catalogue-empty`` when the national side is
    empty: that is an answer that went wrong, and must not withdraw every procedure of a province.
    """
    ours, ours_twice = _by_code(local)
    theirs, theirs_twice = _by_code(national)
    if not theirs:
        raise Malformed("catalogue-empty")
    changed, withdrawn, met = [], [], set()
    for code, here in ours.items():
        there = theirs.get(code) or theirs.get(here.national_code)
        if there is None or not there.is_public:
            if here.is_public:
                withdrawn.append(here)
            continue
        met.add(there.code)
        changes = _changes(here, there)
        if changes:
            changed.append(Changed(local=here, national=there, changes=changes))
    return CatalogueDiff(
        added=tuple(there for code, there in theirs.items() if there.is_public and code not in met),
        changed=tuple(changed),
        withdrawn=tuple(withdrawn),
        twice=tuple(sorted(ours_twice | theirs_twice)),
        unchanged=sum(here.is_public for here in ours.values()) - len(changed) - len(withdrawn),
    )


class Standing(StrEnum):
    """May a new dossier be taken for a procedure, as far as the national catalogue says?"""

    SAME = "như nhau"
    #: It may; what the local software asks for (fee, days, papers) is not what the national catalogue says.
    CHANGED = "thay đổi"
    #: It may, and the local catalogue lacks it.
    NEW = "mới"
    #: It may not: the procedure was abolished, or is not open to the public.
    WITHDRAWN = "bãi bỏ"
    #: It may not: neither catalogue has it.
    UNKNOWN = "không có"

    @property
    def is_open(self) -> bool:
        return self not in (Standing.WITHDRAWN, Standing.UNKNOWN)


def standing_of(code: str, local: Iterable[Procedure], national: Iterable[Procedure]) -> Standing:
    """How one procedure stands: by its code, or that of the national procedure that it is a variant of. Raises
    Malformed for what is no procedure code and, as :func:`catalogue_diff`, for an empty national catalogue."""
    asked = ProcedureCode(code)
    ours, theirs = _by_code(local)[0], _by_code(national)[0]
    here = ours.get(asked) or ours.get(asked.national)
    there = theirs.get(asked) or theirs.get(asked.national)
    if not theirs:
        raise Malformed("catalogue-empty")
    if there is None or not there.is_public:
        return Standing.UNKNOWN if here is None and there is None else Standing.WITHDRAWN
    if here is None or not here.is_public:
        return Standing.NEW
    return Standing.CHANGED if _changes(here, there) else Standing.SAME


#: Columns of a drift report.
HEADINGS: Final = ("loại", "mã TTHC", "tên", "nội dung", "tại tỉnh", "quốc gia")


def drift_rows(diff: CatalogueDiff) -> Iterator[tuple[str, ...]]:
    """A report's rows under ``HEADINGS``: one for each procedure that came or went, and for each thing that changed."""
    for there in diff.added:
        yield ("mới", there.code, there.name, "", "", "")
    for each in diff.changed:
        for change in each.changes:
            yield ("thay đổi", each.local.code, each.local.name, COMPARED[change.field], change.local, change.national)
    for here in diff.withdrawn:
        yield ("bãi bỏ", here.code, here.name, "", "", "")
    for code in diff.twice:
        yield ("trùng mã", code, "", "", "", "")


def drift_csv(diff: CatalogueDiff) -> str:
    """The report as CSV (RFC 4180) for a spreadsheet; write it as ``utf-8-sig``, or Excel shows broken letters."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(HEADINGS)
    writer.writerows([plain_cell(cell) for cell in row] for row in drift_rows(diff))
    return text.getvalue()


def drift_table(diff: CatalogueDiff) -> str:
    """The report as text in columns, and a line that counts."""
    rows = [HEADINGS, *drift_rows(diff)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    counts = (
        f"{len(diff.added)} mới, {len(diff.changed)} thay đổi, {len(diff.withdrawn)} bãi bỏ, {diff.unchanged} như nhau"
    )
    return "\n".join([*(lines if len(rows) > 1 else []), counts])


def _changes(here: Procedure, there: Procedure) -> tuple[Change, ...]:
    pairs = ((name, getattr(here, name), getattr(there, name)) for name in COMPARED)
    return tuple(
        Change(name, _shown(ours), _shown(theirs))
        for name, ours, theirs in pairs
        # Not stated is not different; an empty name is no name.
        if ours is not None and theirs is not None and ours != theirs and (name != "name" or (ours and theirs))
    )


def _shown(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else "; ".join(value)


def _by_code(procedures: Iterable[Procedure]) -> tuple[dict[str, Procedure], set[str]]:
    found: dict[str, Procedure] = {}
    twice = set()
    for procedure in procedures:
        if procedure.code in found:
            twice.add(procedure.code)
        found[procedure.code] = procedure
    return dict(sorted(found.items())), twice


def _rows(document: Mapping[str, Any], member: str) -> Sequence[Mapping[str, Any]] | None:
    """The objects of a list; None where the catalogue does not state it."""
    value = document.get(member)
    if value is None:
        return None
    if not isinstance(value, list):
        raise Malformed("catalogue-unreadable")
    return [row for row in value if isinstance(row, Mapping)]


def _days(channels: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for channel in channels:
        for time in _rows(channel, "THOIGIAN") or ():
            yield f"{channel.get('KENH')}: {_number(time.get('THOIGIANGIAIQUYET'))} {_words(time.get('DONVITINH'))}"


def _fees(channels: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for channel in channels:
        for time in _rows(channel, "THOIGIAN") or ():
            for fee in _rows(time, "PHILEPHI") or ():
                yield f"{channel.get('KENH')}: {_words(fee.get('MAPHILEPHI'))} {_number(fee.get('SOTIEN'))}"


def _components(cases: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The paper's code, which is what dossiers name; its name where it has no code."""
    for case in cases:
        for paper in _rows(case, "GIAYTO") or ():
            named = _words(paper.get("MAGIAYTO")) or _words(paper.get("TENGIAYTO"))
            of_case = _words(case.get("TRUONGHOP"))
            yield f"{of_case}: {named}" if of_case else named


def _codes(document: Mapping[str, Any], member: str, code: str) -> tuple[str, ...] | None:
    rows = _rows(document, member)
    return None if rows is None else _in_order(_words(row.get(code)) for row in rows)


def _in_order(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({word for word in words if word}))


def _words(value: object) -> str:
    return nfc(" ".join(str(value or "").split()))


def _number(value: object) -> str:
    """A number as digits, so that 15, 15.0, "15" and "150.000" in đồng are read alike; anything else as it stands."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = _words(value) if value != 0 else "0"
    groups = text.replace(",", ".").split(".")
    in_thousands = len(groups) > 1 and all(len(group) == 3 for group in groups[1:])
    if in_thousands and all(group.isdecimal() for group in groups) and len(groups[0]) <= 3:
        return "".join(groups)
    return text


def plain_cell(cell: str) -> str:
    """A cell that a spreadsheet shows and does not run: others wrote what is in it."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
