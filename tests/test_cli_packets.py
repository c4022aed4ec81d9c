"""``lgsp edxml``: a recall, an answer, and the files of a packet, from the recorded examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bus.cli import lgsp
from schemas.edxml import (
    BussinessDocType,
    Document,
    Organization,
    StatusDocument,
    faults_of,
    pack,
    read_edxml,
    unpack,
    write_edxml,
)

EXAMPLES = Path(__file__).resolve().parent.parent / "schemas" / "partners" / "edoc"
DOCUMENT = EXAMPLES / "document.example.xml"
RECALL = ("Gửi nhầm", "--id", "000.00.15.H99,2026/04/24,13/TTHCC-VP")
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    environment = {"LANG": "en_GB.UTF-8", "LC_ALL": "", "LC_MESSAGES": ""}
    return lambda *words: CliRunner().invoke(lgsp, ["edxml", *map(str, words)], env=environment)


def original() -> Document:
    document = read_edxml(DOCUMENT.read_bytes())
    assert isinstance(document, Document)
    return document


def written(name: str, document: Document | StatusDocument) -> Path:
    Path(name).write_bytes(write_edxml(document))
    return Path(name)


def test_a_recall_names_its_document_and_brings_no_files(run: Run) -> None:
    done = run("recall", DOCUMENT, *RECALL, "--out", "thu-hoi.xml")
    assert done.exit_code == 0, done.output
    recall = read_edxml(Path("thu-hoi.xml").read_bytes())
    assert isinstance(recall, Document)
    assert recall.bussiness_doc_type is BussinessDocType.RECALL
    assert (recall.concerns, recall.receivers) == ((original().document_id,), original().receivers)
    assert (recall.bussiness.bussiness_doc_reason, recall.attachments, faults_of(recall)) == ("Gửi nhầm", (), ())
    assert read_edxml(run("recall", DOCUMENT, *RECALL).stdout_bytes).document_id == recall.document_id  # type: ignore[union-attr]


def test_a_receiver_answers_in_its_own_name(run: Run) -> None:
    organ_id = original().receivers[0].organ_id
    done = run("status", DOCUMENT, "15", "--as", organ_id)
    assert done.exit_code == 0, done.output
    said = read_edxml(done.stdout_bytes)
    assert isinstance(said, StatusDocument)
    assert (said.sender.organ_id, said.status_code) == (organ_id, "15")
    assert said.response_for.document_id == original().document_id
    stranger = run("status", DOCUMENT, "15", "--as", "000.00.99.H99")
    assert (stranger.exit_code, organ_id in stranger.stderr) == (2, True)


def test_files_are_taken_out_under_names_of_our_own(run: Run) -> None:
    evil = (pack("../../ngoai.pdf", b"%PDF-1", content_id="a"), pack("a\x1b[2J.sh\x00x", b"2", content_id="b"))
    path = written("doc.xml", replace(original(), attachments=evil[:1]))
    done = run("files", path, "--out", "ra/day")
    assert done.exit_code == 0, done.output
    assert [place.name for place in Path("ra/day").iterdir()] == ["01.pdf"]
    assert Path("ra/day/01.pdf").read_bytes() == b"%PDF-1"
    assert not Path("ngoai.pdf").exists()
    again = run("files", path, "--out", "ra/day")
    assert again.exit_code == 1
    assert "another folder" in again.stderr


def test_the_files_of_the_recorded_example_are_whole(run: Run) -> None:
    done = run("files", DOCUMENT, "--out", "ra")
    assert done.exit_code == 0, done.output
    expected = [each.content for attachment in original().attachments for each in unpack(attachment)]
    assert [path.read_bytes() for path in sorted(Path("ra").iterdir())] == expected


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("recall", EXAMPLES / "status.example.xml", *RECALL), 2, "status document"),
        (("files", EXAMPLES / "received.example.json", "--out", "ra"), 2, ""),
        (("recall", DOCUMENT, "x", "--id", "không phải mã"), 1, "MessageHeader"),
        (("status", DOCUMENT, "77", "--as", "x"), 2, "77"),
    ],
)
def test_what_the_axis_would_refuse_is_not_written(run: Run, words: tuple[object, ...], code: int, said: str) -> None:
    done = run(*words)
    assert done.exit_code == code, done.output
    assert said in done.stderr
    assert "Traceback" not in done.output


def test_names_of_receivers_do_not_move_the_cursor(run: Run) -> None:
    path = written("doc.xml", replace(original(), receivers=(Organization(organ_id="a\u202eb"),)))
    done = run("status", path, "01", "--as", "x")
    assert done.exit_code == 2
    assert "\u202e" not in done.stderr
