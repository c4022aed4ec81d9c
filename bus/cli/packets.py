"""``lgsp edxml``: packets of the document axis on this machine: recall one, answer one, take out its files.

Nothing is sent here: what is written goes out by ``lgsp send --service edoc.send``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from bus.cli import FAILED, REFUSED, fail
from bus.cli.member import write_whole
from bus.cli.terminal import printable
from schemas.edxml import (
    STATUS_CODES,
    Document,
    StatusDocument,
    faults_of,
    read_edxml,
    recall_of,
    status_of,
    unpack,
    write_edxml,
)
from schemas.moment import utc_now

_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
_OUT = click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File; else standard output.")


@click.group()
def edxml() -> None:
    """Packets of the document axis (QCVN 102:2016): recall, answer, unpack."""


@edxml.command()
@click.option("--id", "document_id", required=True, metavar="ID", help="The recall's own DocumentId.")
@_OUT
@click.argument("file", type=_EXISTING)
@click.argument("reason")
def recall(document_id: str, out: Path | None, file: Path, reason: str) -> None:
    """Write the packet that asks the receivers of FILE to give it back; they answer with status 15 or 16.

    \b
    Example:
      lgsp edxml recall cong-van.xml "Gửi nhầm" --id "000.00.15.H99,2026/04/24,13/TTHCC-VP" --out thu-hoi.xml
      lgsp send --service edoc.send --to G99.22 thu-hoi.xml
    """
    _write(recall_of(_document(file), reason, document_id=document_id, now=utc_now()), out)


@edxml.command()
@click.option("--as", "organ_id", required=True, metavar="CODE", help="Which of its receivers answers.")
@click.option("--says", default="", metavar="TEXT", help="Description; else the code's own words.")
@_OUT
@click.argument("file", type=_EXISTING)
@click.argument("code", type=click.Choice(sorted(STATUS_CODES)))
def status(organ_id: str, says: str, out: Path | None, file: Path, code: str) -> None:
    """Write the status document with which a receiver of FILE answers it: 01 arrived, 02 refused, … 15 recall agreed.

    \b
    Example:
      lgsp edxml status cong-van.xml 03 --as 000.00.16.H99 --out da-nhan.xml
      lgsp send --service edoc.status --to G99.22 da-nhan.xml
    """
    document = _document(file)
    receivers = {each.organ_id: each for each in document.receivers}
    if organ_id not in receivers:
        fail(f"--as names none of its receivers: {printable(', '.join(receivers))}.", REFUSED)
    _write(status_of(document, code, receiver=receivers[organ_id], now=utc_now(), description=says), out)


@edxml.command()
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
@click.argument("file", type=_EXISTING)
def files(out: Path, file: Path) -> None:
    """Take the files out of FILE's attachments. Their names are told, and are no paths here: files are numbered.

    \b
    Example:
      lgsp edxml files cong-van.xml --out cong-van
    """
    found = [each for attachment in _document(file).attachments for each in unpack(attachment)]
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    for number, each in enumerate(found, start=1):
        suffix = Path(each.name).suffix
        place = out / f"{number:02d}{suffix if _SUFFIX.fullmatch(suffix) else ''}"
        if place.exists():
            fail(f"{place} is there already. Name another folder.")
        write_whole(place, each.content)
        click.echo(f"{place}  {len(each.content)} bytes  {printable(each.name)}")
    click.echo(f"{len(found)} files")


def _document(file: Path) -> Document:
    """The document in a packet of either dialect. Raises Malformed."""
    read: Any = read_edxml(file.read_bytes())
    if not isinstance(read, Document):
        fail(f"{file} is a status document; a document is expected.", REFUSED)
    return read


def _write(document: Document | StatusDocument, out: Path | None) -> None:
    faults = faults_of(document)
    if faults:
        # The axis would refuse it, and say less.
        fail("\n".join(["The axis would refuse this packet:", *(f"  {printable(fault)}" for fault in faults)]), FAILED)
    packet = write_edxml(document)
    if out is None:
        sys.stdout.buffer.write(packet)
        sys.stdout.buffer.flush()
    else:
        write_whole(out, packet)
