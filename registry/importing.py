"""Agencies by the hundred from a spreadsheet: code, name, parent; and members: agencies with a system, a proof of who
they are, and the right to send some services so many times.

A province has hundreds of communes; nobody writes them by hand. The file is CSV as offices save it: comma, semicolon
or tab, with or without a byte order mark, headings in English or Vietnamese, codes in either living spelling.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from registry.directory import Directory
from registry.model import Agency, Grant, Quota, System
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from schemas.problem import FieldError, Malformed
from schemas.reasons import Wording

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
#: The same for members.
MEMBER_HEADINGS = {
    **HEADINGS,
    "system": "system",
    "he thong": "system",
    "ma he thong": "system",
    "proof": "proof",
    "xac thuc": "proof",
    "services": "services",
    "dich vu": "services",
    "receivers": "receivers",
    "noi nhan": "receivers",
    "per minute": "per_minute",
    "moi phut": "per_minute",
    "per day": "per_day",
    "moi ngay": "per_day",
}
#: What a system is called where the file does not say.
SYSTEM_NAME = "mot-cua"
#: More than all agencies of the country.
MAX_ROWS = 100_000


class Proof(StrEnum):
    """How a member shows who it is: it signs with a key of its own, or fetches tokens with a client secret."""

    KEY = "key"
    SECRET = "secret"  # noqa: S105 - a word of the spreadsheet


_PROOFS = {"": Proof.KEY, "key": Proof.KEY, "khoa": Proof.KEY, "secret": Proof.SECRET, "ma bi mat": Proof.SECRET}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One line of the file: an agency, its system without keys or secret, and its grants."""

    agency: Agency
    system: System
    proof: Proof
    grants: tuple[Grant, ...]


def members_from_csv(data: bytes, directory: Directory, *, source: str = "csv") -> list[Member]:
    """The members of the file. What the registry knows already of a system or a grant stays as it is, but for quotas.

    An empty ``system`` is ``mot-cua``; ``services`` and ``receivers`` are codes with spaces or commas between them, no
    receivers meaning anybody; no quota means no limit. Raises Malformed(registry-manifest-invalid) with ``file#line``
    of everything wrong.
    """
    agencies = {agency.code: agency for agency in agencies_from_csv(data, directory, source=source)}
    errors: list[FieldError] = []
    found: list[Member] = []
    for line, row in _rows(data, source, MEMBER_HEADINGS):
        agency = agencies[AgencyCode.parse(row["code"])]
        try:
            found.append(_member(agency, row, directory))
        except Malformed as problem:
            told = problem.errors or (FieldError.worded("", problem.wording()),)
            errors += [replace(error, pointer=f"{source}#{line}{error.pointer}") for error in told]
    if errors:
        raise Malformed("registry-manifest-invalid", errors=errors[:100])
    return found


def _member(agency: Agency, row: dict[str, str], directory: Directory) -> Member:
    code = SystemCode(f"{agency.code}/{row.get('system') or SYSTEM_NAME}")
    proof = _PROOFS.get(_plain_heading(row.get("proof", "")))
    if proof is None:
        raise _refused("/proof", Wording("must be key or secret", "phải là khoá hoặc mã bí mật (key, secret)"))
    quota = Quota(per_minute=_number(row, "per_minute"), per_day=_number(row, "per_day"))
    receivers = tuple(map(AgencyCode.parse, _words(row.get("receivers", ""))))
    grants = []
    for service in map(ServiceCode, _words(row.get("services", ""))):
        if not directory.service_exists(service):
            rule = Wording(f"names {service}, which is not registered", f"nêu {service}, dịch vụ chưa đăng ký")
            raise _refused("/services", rule)
        held = directory.grants.get(f"{service}.{agency.code}")
        made = held or Grant(id=f"{service}.{agency.code}", service=service, grantee=agency.code, receivers=receivers)
        grants.append(replace(made, quota=quota))
    system = directory.systems.get(code) or System(code=code, name=agency.name)
    return Member(agency=agency, system=system, proof=proof, grants=tuple(grants))


def _words(cell: str) -> list[str]:
    return cell.replace(",", " ").replace(";", " ").split()


def _number(row: dict[str, str], name: str) -> int:
    """A quota; people write 1.000 or 1 000 for a thousand here."""
    written = re.sub(r"(?<=\d)[. ](?=\d{3}\b)", "", row.get(name, ""))
    if not re.fullmatch("[0-9]{0,9}", written, re.ASCII):
        rule = Wording(
            "must be a whole number, or empty for no limit", "phải là số nguyên, hoặc để trống nếu không giới hạn"
        )
        raise _refused(f"/{name}", rule)
    return int(written or 0)


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
            errors.append(FieldError.worded(f"{source}#{line}", problem.wording()))
            continue
        if not agency.name:
            errors.append(FieldError.worded(f"{source}#{line}/name", Wording("is empty", "bị bỏ trống")))
        if agency.code in found:
            rule = Wording("is in the file twice", "có hai lần trong tệp")
            errors.append(FieldError.worded(f"{source}#{line}/code", rule))
        found[agency.code] = agency
    if errors:
        raise Malformed("registry-manifest-invalid", errors=errors[:100])
    return [_under_its_parent(agency, found, directory) for agency in found.values()]


def _rows(data: bytes, source: str, known: Mapping[str, str] = HEADINGS) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        text = unicodedata.normalize("NFC", data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        rule = Wording("is not UTF-8; save it as 'CSV UTF-8'", "không phải UTF-8; hãy lưu ở dạng 'CSV UTF-8'")
        raise _refused(source, rule) from None
    first_line = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first_line.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        headings = [known.get(_plain_heading(cell), "") for cell in next(reader, [])]
        if not {"code", "name"} <= set(headings) or len([h for h in headings if h]) != len({h for h in headings if h}):
            rule = Wording(
                "must name the columns code, name and, if wanted, parent, each once",
                "phải có các cột mã (code), tên (name) và nếu cần, cấp trên (parent), mỗi cột một lần",
            )
            raise _refused(f"{source}#1", rule)
        for row in reader:
            if reader.line_num > MAX_ROWS:
                raise _refused(source, Wording(f"has more than {MAX_ROWS} lines", f"có quá {MAX_ROWS} dòng"))
            if any(cell.strip() for cell in row):
                yield reader.line_num, {name: cell.strip() for name, cell in zip(headings, row, strict=False) if name}
    except csv.Error:
        rule = Wording("is not readable as CSV", "không đọc được theo dạng CSV")
        raise _refused(f"{source}#{reader.line_num}", rule) from None


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


def _refused(pointer: str, rule: Wording) -> Malformed:
    return Malformed("registry-manifest-invalid", errors=[FieldError.worded(pointer, rule)])
