"""Tables to take away, as CSV and XLSX. What people and partners wrote stays text: no cell is ever a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from openpyxl import Workbook
from openpyxl.styles import Font

from schemas.procedures import plain_cell

CSV: Final = "text/csv; charset=utf-8"
XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
#: What no worksheet may hold.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
#: Excel's own limit.
_LONGEST_TITLE: Final = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table: its name in a file's name, its title, its rows with the heading first."""

    name: str
    title: str
    rows: Sequence[Sequence[Any]]


def csv_of(sheet: Sheet) -> bytes:
    """UTF-8 with a byte order mark, by which spreadsheets know it. What looks like a formula gets a quote before it."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\r\n").writerows(
        [plain_cell(value) if isinstance(value, str) else value for value in row] for row in sheet.rows
    )
    return b"\xef\xbb\xbf" + file.getvalue().encode()


def xlsx_of(sheets: Iterable[Sheet]) -> bytes:
    """One worksheet for each; texts are texts, whatever they begin with."""
    book = Workbook()
    book.remove(book.worksheets[0])
    for sheet in sheets:
        page = book.create_sheet(sheet.title[:_LONGEST_TITLE])
        page.freeze_panes = "A2"
        for number, row in enumerate(sheet.rows, 1):
            for column, value in enumerate(row, 1):
                cell = page.cell(number, column)
                cell.value = _CONTROLS.sub("", value) if isinstance(value, str) else value
                if isinstance(value, str):
                    cell.data_type = "s"
                if number == 1:
                    cell.font = Font(bold=True)
        for letter in "AB":
            page.column_dimensions[letter].width = 32
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()
