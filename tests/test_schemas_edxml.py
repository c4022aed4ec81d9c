"""edXML: both dialects read, one written, judged by the axis's rules; hostile packets and attachments refused."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.edxml import (
    MAX_STRAY_BYTES,
    STATUS_CODES,
    AttachedFile,
    Attachment,
    Bussiness,
    BussinessDocType,
    Dialect,
    Document,
    DocumentId,
    Organization,
    ReplacementInfo,
    ResponseFor,
    StatusDocument,
    faults_of,
    pack,
    read_edxml,
    recall_of,
    status_of,
    unpack,
    write_edxml,
)
from schemas.problem import Malformed

EXAMPLES = Path(__file__).resolve().parent.parent / "schemas" / "partners" / "edoc"
NOW = datetime(2026, 4, 24, 1, 30, tzinfo=UTC)


def raw(name: str = "document") -> bytes:
    return (EXAMPLES / f"{name}.example.xml").read_bytes()


def document(name: str = "document") -> Document:
    found = read_edxml(raw(name))
    assert isinstance(found, Document)
    return found


def reason_of(data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        read_edxml(data)
    return caught.value.reason


class TestReading:
    def test_a_document_of_the_standard(self) -> None:
        found = document()
        assert found.dialect == Dialect.QCVN_102
        assert (found.sender.organ_id, found.sender.agency) == ("000.00.15.H99", "H99.15")
        assert [str(receiver.agency) for receiver in found.receivers] == ["H99.16", "G99.14"]
        assert found.code.code_notation == "TTHCC-VP"
        assert found.other_info.typer_notation == "VP"
        assert found.to_places == ("Như trên", "Lưu: VT")
        assert found.trace[0].timestamp == "2026/04/23 10:00:00"
        assert found.bussiness_doc_type == BussinessDocType.NEW
        assert not found.is_signed
        assert found.concerns == ()

    def test_a_document_of_the_older_dialect(self) -> None:
        found = document("incoming-old")
        assert found.dialect == Dialect.OLD
        assert found.document_type.type_name == "Công văn"
        assert found.signer_info.full_name == "Lý Thái An"
        assert found.trace[0].organ_id == "H99.DN.001"
        assert [item.attachment_name for item in found.attachments] == ["5-DNM.pdf"]
        assert unpack(found.attachments[0])[0].content.startswith(b"%PDF")
        assert faults_of(found) == ()

    def test_prefixes_and_order_do_not_count(self) -> None:
        """The kit writes the prefix edXML: everywhere below the root, and puts the DocumentId last."""
        plain = document()
        text = raw().decode()
        start = text.index("<edXMLEnvelope>")
        end = text.index("</edXMLEnvelope>") + len("</edXMLEnvelope>")
        inner = text[start:end].replace("</", "\0").replace("<", "<edXML:").replace("\0", "</edXML:")
        inner = inner.replace("<edXML:edXMLEnvelope", '<edXML:edXMLEnvelope xmlns:edXML="' + NAMESPACE + '"', 1)
        identifier = f"<edXML:DocumentId>{plain.document_id}</edXML:DocumentId>"
        assert identifier in inner
        inner = inner.replace(identifier, "").replace("</edXML:MessageHeader>", f"{identifier}</edXML:MessageHeader>")
        assert read_edxml((text[:start] + inner + text[end:]).encode()) == plain

    @pytest.mark.parametrize("stray", [b"", b"1212", b"\r\n ", b"x" * MAX_STRAY_BYTES, b"\xff\xfe"])
    def test_bytes_before_the_root_are_counted(self, stray: bytes) -> None:
        assert read_edxml(stray + raw()) == replace(document(), stray_bytes=len(stray))

    def test_a_byte_order_mark_is_none_of_them(self) -> None:
        assert read_edxml(b"\xef\xbb\xbf" + raw()) == document()

    def test_a_status_document(self) -> None:
        found = read_edxml(raw("status"))
        assert isinstance(found, StatusDocument)
        assert found.status_code == "03"
        assert found.response_for.document_id == "000.00.14.G99,2026/04/23,78/CTN-VP"
        assert found.staff_info is not None
        assert found.staff_info.staff == "Nông Y Bang"

    def test_a_status_document_may_call_its_header_status(self) -> None:
        renamed = raw("status").replace(b"MessageHeader>", b"Status>")
        assert read_edxml(renamed) == read_edxml(raw("status"))

    @pytest.mark.parametrize("name, about", [("recall", 1), ("update", 1), ("replacement", 1)])
    def test_changes_name_the_document_that_they_are_about(self, name: str, about: int) -> None:
        found = document(name)
        assert found.concerns == (document().document_id,) * about
        assert found.bussiness.bussiness_doc_reason

    def test_the_signature_of_the_kits_samples_is_none(self) -> None:
        """It stands in the packet's own namespace, so nothing can be judged by it."""
        fake = raw().replace(b"</edXMLHeader>", b"<Signature><SignedInfo/></Signature></edXMLHeader>")
        real = raw().replace(
            b"</edXMLHeader>", b'<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"/></edXMLHeader>'
        )
        assert (is_signed(fake), is_signed(real)) == (False, True)

    def test_a_comment_does_not_cut_a_value_in_two(self) -> None:
        """It is not signed, so it must not change what is read."""
        told = raw().replace(b"<OrganId>000.00.15", b"<OrganId>000.00.<!-- x -->15", 1)
        assert read_edxml(told) == document()


NAMESPACE = "http://www.mic.gov.vn/TBT/QCVN_102_2016"


def is_signed(data: bytes) -> bool:
    return read_edxml(data).is_signed


class TestHostile:
    @pytest.mark.parametrize(
        "change, reason",
        [
            (lambda text: b"", "edxml-unknown"),
            (lambda text: b"PK\x03\x04", "edxml-unknown"),
            (lambda text: b"<html/>", "edxml-unknown"),
            (lambda text: b"x" * (MAX_STRAY_BYTES + 1) + text, "edxml-unknown"),
            (lambda text: b"<a/>" + text, "edxml-unknown"),
            (lambda text: b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>' + text, "edxml-unknown"),
            (
                lambda text: text.replace(b"?>", b'?><!DOCTYPE edXML [<!ENTITY b SYSTEM "file:///etc/passwd">]>', 1),
                "xml-doctype",
            ),
            (lambda text: text.replace(NAMESPACE.encode(), b"http://www.e-doc.vn/Schema/"), "edxml-unknown"),
            (lambda text: text.replace(b"<edXML ", b"<edXMLx ").replace(b"</edXML>", b"</edXMLx>"), "edxml-unknown"),
            (lambda text: text[:-20], "xml-invalid"),
            (lambda text: text.replace(b"UTF-8", b"UTF-16", 1), "xml-not-utf8"),
            (lambda text: text.replace(b"MessageHeader>", b"Other>"), "edxml-incomplete"),
            (lambda text: text.replace(b"<Subject>", b"<Subject>a</Subject><Subject>", 1), "edxml-twice"),
            (lambda text: text.replace(b"<From>", b"<From/><From>", 1), "edxml-twice"),
            (lambda text: text.replace(b"<edXMLHeader>", b"<edXMLHeader/><edXMLHeader>", 1), "edxml-twice"),
            (lambda text: text.replace(b"<edXMLEnvelope>", b"<edXMLEnvelope/><edXMLEnvelope>"), "edxml-twice"),
            (lambda text: text.replace(b"<MessageHeader>", b"<Status/><MessageHeader>", 1), "edxml-twice"),
            (lambda text: text.replace(b"</edXMLEnvelope>", b"<AttachmentEncoded/></edXMLEnvelope>"), "edxml-twice"),
            (
                lambda text: text.replace(
                    b"<Attachment>", b"<Attachment><ContentId>att1</ContentId></Attachment><Attachment>"
                ),
                "edxml-twice",
            ),
            (lambda text: text.replace(b"<Subject>", b"<Subject>" + b"<a>" * 5000, 1), "xml-invalid"),
            (lambda text: text.replace(b"<To>", b"<To/>" * 100_001 + b"<To>", 1), "xml-too-many-elements"),
        ],
    )
    def test_what_is_no_packet_is_refused(self, change: Callable[[bytes], bytes], reason: str) -> None:
        assert reason_of(change(raw())) == reason

    def test_a_value_that_holds_elements_is_empty(self) -> None:
        """Two readers would take two texts out of it."""
        told = raw().replace(b"<Subject>", b"<Subject><b>x</b>", 1)
        found = read_edxml(told)
        assert isinstance(found, Document)
        assert found.subject == ""
        assert faults_of(found) == ("N.MessageHeader.Subject",)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(at=st.integers(0, 2500), length=st.integers(0, 40), put=st.binary(max_size=20))
    def test_broken_packets_are_refused_or_read_and_nothing_else(self, at: int, length: int, put: bytes) -> None:
        whole = raw()
        try:
            found = read_edxml(whole[:at] + put + whole[at + length :])
        except Malformed:
            return
        faults_of(found)
        write_edxml(found)


class TestWriting:
    @pytest.mark.parametrize("name", ["document", "recall", "update", "replacement", "status"])
    def test_what_was_read_is_written_and_read_again(self, name: str) -> None:
        found = read_edxml(raw(name))
        assert read_edxml(write_edxml(found)) == found

    def test_the_older_dialect_is_written_as_the_standard(self) -> None:
        found = document("incoming-old")
        written = read_edxml(write_edxml(found))
        assert written == replace(found, dialect=Dialect.QCVN_102)

    def test_text_stays_text(self) -> None:
        told = replace(document(), subject='<b>&amp; "]]>')
        again = read_edxml(write_edxml(told))
        assert again == told

    def test_a_recall_asks_for_the_document_back(self) -> None:
        found = recall_of(document(), "Gửi nhầm", document_id="000.00.15.H99,2026/04/24,13/TTHCC-VP", now=NOW)
        assert found.bussiness_doc_type == BussinessDocType.RECALL
        assert found.concerns == (document().document_id,)
        assert found.receivers == document().receivers
        assert found.trace[0].timestamp == "2026/04/24 08:30:00"
        assert faults_of(found) == ()

    @pytest.mark.parametrize("code", STATUS_CODES)
    def test_a_status_names_the_document_that_it_answers(self, code: str) -> None:
        said = status_of(document(), code, receiver=document().receivers[0], now=NOW)
        assert said.response_for == ResponseFor(
            organ_id="000.00.15.H99",
            code="12/TTHCC-VP",
            promulgation_date="2026/04/23",
            document_id=document().document_id,
        )
        assert faults_of(said) == ()
        assert read_edxml(write_edxml(said)) == said


class TestJudging:
    @pytest.mark.parametrize("length, codes", [(500, ()), (501, ("R.MessageHeader.Subject",))])
    def test_lengths_are_counted_in_letters(self, length: int, codes: tuple[str, ...]) -> None:
        assert faults_of(replace(document(), subject="ộ" * length)) == codes

    @pytest.mark.parametrize(
        "part, field, text, code",
        [
            ("sender", "organ_name", "x" * 201, "R.MessageHeader.From.OrganName"),
            ("sender", "organ_add", "x" * 251, "R.MessageHeader.From.OrganAdd"),
            ("sender", "email", "x" * 101, "R.MessageHeader.From.Email"),
            ("sender", "telephone", "1" * 21, "R.MessageHeader.From.Telephone"),
            ("sender", "organ_id", "", "N.MessageHeader.From.OrganId"),
            ("sender", "organ_id", "1.2.3.4.5", "M.MessageHeader.From.OrganId"),
            ("sender", "organ_id", "H99.15\nX", "M.MessageHeader.From.OrganId"),
            ("code", "code_number", "1" * 12, "R.MessageHeader.Code.CodeNumber"),
            ("code", "code_notation", "x" * 31, "R.MessageHeader.Code.CodeNotation"),
            ("document_type", "type_name", "x" * 101, "R.MessageHeader.DocumentType.TypeName"),
            ("promulgation_info", "place", "x" * 51, "R.MessageHeader.PromulgationInfo.Place"),
            (
                "promulgation_info",
                "promulgation_date",
                "2026-04-23",
                "T.MessageHeader.PromulgationInfo.PromulgationDate",
            ),
            (
                "promulgation_info",
                "promulgation_date",
                "2026/02/30",
                "T.MessageHeader.PromulgationInfo.PromulgationDate",
            ),
            ("signer_info", "full_name", "x" * 51, "R.MessageHeader.SignerInfo.FullName"),
            ("signer_info", "competence", "x" * 101, "R.MessageHeader.SignerInfo.Competence"),
            ("other_info", "typer_notation", "x" * 11, "R.MessageHeader.OtherInfo.TyperNotation"),
            ("other_info", "priority", "5", "R.MessageHeader.OtherInfo.Priority"),
            ("other_info", "priority", "khẩn", "T.MessageHeader.OtherInfo.Priority"),
            ("other_info", "page_amount", "²", "T.MessageHeader.OtherInfo.PageAmount"),
            ("bussiness", "bussiness_doc_type", "4", "R.TraceHeaderList.Bussiness.BussinessDocType"),
        ],
    )
    def test_each_place_has_its_code(self, part: str, field: str, text: str, code: str) -> None:
        told = document()
        changed = replace(told, **{part: replace(getattr(told, part), **{field: text})})
        assert faults_of(changed) == (code,)

    @pytest.mark.parametrize(
        "changes, code",
        [
            ({"subject": ""}, "N.MessageHeader.Subject"),
            ({"receivers": ()}, "N.MessageHeader.To"),
            ({"receivers": (Organization(organ_name="A"),)}, "N.MessageHeader.To.OrganId"),
            ({"to_places": ("x" * 151,)}, "R.MessageHeader.ToPlaces.Place"),
            ({"document_id": "12/UBND"}, "T.MessageHeader.DocumentId"),
            ({"bussiness": Bussiness(bussiness_doc_type="3")}, "M.TraceHeaderList.Bussiness.DocumentId"),
            ({"attachments": (Attachment(content_id="a", attachment_name="a.pdf"),)}, "M.AttachmentEncoded.Attachment"),
        ],
    )
    def test_what_belongs_together_is_there(self, changes: dict[str, Any], code: str) -> None:
        assert faults_of(replace(document(), **changes)) == (code,)

    def test_all_faults_are_told_at_once_and_each_once(self) -> None:
        bad = Organization(organ_id="1.2.3.4.5")
        told = replace(document(), subject="", due_date="mai", receivers=(bad, bad))
        assert faults_of(told) == (
            "M.MessageHeader.To.OrganId",
            "N.MessageHeader.Subject",
            "T.MessageHeader.DueDate",
        )

    def test_a_replacement_concerns_each_document_once(self) -> None:
        names = tuple(ReplacementInfo(document_id=name) for name in ("a", "b", "a"))
        told = replace(document(), bussiness=Bussiness(bussiness_doc_type="3", replacement_info_list=names))
        assert told.concerns == ("a", "b")


class TestDocumentIds:
    def test_the_form_of_the_standard(self) -> None:
        found = DocumentId.parse("000.00.00.H99,2026/04/23,12/UBND-VP")
        assert (found.organ_id, found.number) == ("000.00.00.H99", "12/UBND-VP")
        assert found.promulgated is not None
        assert f"{found.promulgated:%d/%m/%Y}" == "23/04/2026"

    def test_a_uuid(self) -> None:
        found = DocumentId.parse("6C1E2A34-5b6d-4f70-8a91-b2c3d4e5f601")
        assert found == DocumentId(text="6c1e2a34-5b6d-4f70-8a91-b2c3d4e5f601")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "12",
            ",,",
            "H99,2026/04/23,",
            "H99,2026-04-23,1",
            "H99,2026/02/30,1",
            "a b,2026/04/23,1",
            "H99,2026/04/23,1\n",
        ],
    )
    def test_anything_else_is_none(self, text: str) -> None:
        with pytest.raises(Malformed) as caught:
            DocumentId.parse(text)
        assert caught.value.reason == "edxml-document-id"


def zipped(*files: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return packed.getvalue()


def attachment(content: bytes) -> Attachment:
    return Attachment(content_id="a", attachment_name="a.pdf", encoded=base64.b64encode(content).decode())


class TestAttachments:
    def test_a_file_comes_out_as_it_went_in(self) -> None:
        packed = pack("công văn.pdf", b"%PDF-1.4", content_id="att1")
        assert unpack(packed) == (AttachedFile(name="công văn.pdf", content=b"%PDF-1.4"),)
        assert pack("công văn.pdf", b"%PDF-1.4", content_id="att1") == packed
        assert b"%PDF" not in repr(packed).encode()

    def test_lines_in_base64_do_not_matter(self) -> None:
        packed = attachment(zipped(("a", b"1"), ("b", b"2")))
        broken = replace(packed, encoded="\n ".join(packed.encoded[at : at + 8] for at in range(0, 400, 8)))
        assert [file.content for file in unpack(broken)] == [b"1", b"2"]

    def test_a_file_that_is_not_zipped_is_taken(self) -> None:
        assert unpack(attachment(b"%PDF-1.4")) == (AttachedFile(name="a.pdf", content=b"%PDF-1.4"),)

    @pytest.mark.parametrize(
        "content",
        [
            zipped(("a", bytes(2_000_000))),
            zipped(*((f"{number}", bytes(20_000)) for number in range(60))),
            zipped(*((f"{number}", b"") for number in range(101))),
            bytes(1_000_001),
        ],
    )
    def test_bombs_are_refused_before_they_unfold(self, content: bytes) -> None:
        with pytest.raises(Malformed) as caught:
            unpack(attachment(content), max_bytes=1_000_000)
        assert caught.value.reason == "edxml-attachment-too-large"

    def test_a_zip_that_lies_about_its_size_is_refused(self) -> None:
        honest = zipped(("a", bytes(2_000_000)))
        lying = honest.replace((2_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
        assert lying != honest
        with pytest.raises(Malformed):
            unpack(attachment(lying), max_bytes=1_000_000)

    @pytest.mark.parametrize("encoded", ["####", "abc", "UEsDBA==", "é"])
    def test_what_is_no_file_is_refused(self, encoded: str) -> None:
        with pytest.raises(Malformed) as caught:
            unpack(Attachment(content_id="a", encoded=encoded))
        assert caught.value.reason == "edxml-attachment-unreadable"

    def test_an_encrypted_zip_is_refused(self) -> None:
        whole = bytearray(zipped(("a", b"1")))
        whole[6] |= 1
        whole[whole.index(b"PK\x01\x02") + 8] |= 1
        with pytest.raises(Malformed) as caught:
            unpack(attachment(bytes(whole)))
        assert caught.value.reason == "edxml-attachment-unreadable"

    @settings(max_examples=100, deadline=None)
    @given(at=st.integers(0, 130), put=st.binary(min_size=1, max_size=6))
    def test_broken_zips_are_refused_or_read_and_nothing_else(self, at: int, put: bytes) -> None:
        whole = zipped(("a.pdf", b"%PDF-1.4 " * 20))
        broken = whole[:at] + put + whole[at + len(put) :]
        try:
            unpack(attachment(broken))
        except Malformed:
            return
