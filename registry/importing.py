"""Agencies by the hundred from a spreadsheet: code, name, parent.

A province has hundreds of communes; nobody writes them by hand. The file is CSV as offices save it: comma, semicolon
or tab, with or without a byte order mark, headings in English or Vietnamese, codes in either living spelling.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterator

from registry.directory import Directory
from registry.model import Agency
from schemas.identifiers import AgencyCode
from schemas.problem import FieldError, Malformed

#: Headings that are understood, without accents and in lower case.
HEADINGS = {
    "code": "code",
    "ma": "code",
    "ma dinh danh": "code",
    "name": "name",
    "ten": "name",
    "ten co quan": "name",
    "ten don vi": "name",
    "parent": "parent",
    "ma cha": "parent",
    "truc thuoc": "parent",
    "co quan cap tren": "parent",
}
#: More than all agencies of the country.
MAX_ROWS = 100_000


def agencies_from_csv(data: bytes, directory: Directory, *, source: str = "csv") -> list[Agency]:
    """The agencies of the file, ready for :func:`registry.changes.plan_changes`.

    A code in the old spelling (QCVN 102:2016) becomes the new one and is kept as an alias when no rule leads from one
    to the other. An empty parent means the agency one group up, if the file or the directory has it. Aliases that an
    agency already has are kept. Raises Malformed(registry-manifest-invalid) with ``file#line`` of everything wrong.
    """
    errors: list[FieldError] = []
    found: dict[AgencyCode, Agency] = {}
    for line, row in _rows(data, source):
        try:
            agency = _agency(row, directory)
        except Malformed as problem:
            errors.append(FieldError(pointer=f"{source}#{line}", detail=problem.detail()))
            continue
        if not agency.name:
            errors.append(FieldError(pointer=f"{source}#{line}/name", detail="is empty"))
        if agency.code in found:
            errors.append(FieldError(pointer=f"{source}#{line}/code", detail="is in the file twice"))
        found[agency.code] = agency
    if errors:
        raise Malformed("registry-manifest-invalid", errors=errors[:100])
    return [_under_its_parent(agency, found, directory) for agency in found.values()]


def _rows(data: bytes, source: str) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        text = unicodedata.normalize("NFC", data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise _refused(source, "is not UTF-8; save it as 'CSV UTF-8'") from None
    first_line = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first_line.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        headings = [HEADINGS.get(_plain_heading(cell), "") for cell in next(reader, [])]
        if not {"code", "name"} <= set(headings) or len([h for h in headings if h]) != len({h for h in headings if h}):
            raise _refused(f"{source}#1", "must name the columns code, name and, if wanted, parent, each once")
        for row in reader:
            if reader.line_num > MAX_ROWS:
                raise _refused(source, f"has more than {MAX_ROWS} lines")
            if any(cell.strip() for cell in row):
                yield reader.line_num, {name: cell.strip() for name, cell in zip(headings, row, strict=False) if name}
    except csv.Error:
        raise _refused(f"{source}#{reader.line_num}", "is not readable as CSV") from None


def _plain_heading(cell: str) -> str:
    apart = unicodedata.normalize("NFD", cell.strip().lower().replace("đ", "d").replace("_", " "))
    return "".join(letter for letter in apart if not unicodedata.combining(letter))


def _agency(row: dict[str, str], directory: Directory) -> Agency:
    written = row.get("code", "")
    code = AgencyCode.parse(written)
    parent = AgencyCode.parse(row["parent"]) if row.get("parent") else None
    held = directory.agencies.get(code)
    aliases = held.aliases if held else ()
    if written != code and written != _old_spelling(code) and written not in aliases:
        aliases = (*aliases, written)
    return Agency(code=code, name=row.get("name", ""), parent=parent, aliases=aliases)


def _old_spelling(code: AgencyCode) -> str:
    try:
        return code.to_old()
    except Malformed:
        return ""


def _under_its_parent(agency: Agency, found: dict[AgencyCode, Agency], directory: Directory) -> Agency:
    if agency.parent is not None:
        return agency
    above = agency.code.parent
    while above is not None and above not in found and above not in directory.agencies:
        above = above.parent
    return Agency(code=agency.code, name=agency.name, parent=above, aliases=agency.aliases)


def _refused(pointer: str, rule: str) -> Malformed:
    return Malformed("registry-manifest-invalid", errors=[FieldError(pointer=pointer, detail=rule)])
