from __future__ import annotations

import io
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigurationError, RequestError, TooLarge, Unprocessable, UnsupportedMedia
from documents.knowledge import load_knowledge
from documents.limits import Limits
from documents.parsers import parse, supported_suffixes

KOREAN = "하늘은 메인보컬입니다. 좋아하는 것은 딸기우유입니다."
JAPANESE = "これは休暇の規程です。カタカナも漢字もあります。"


def make_pdf(text: str) -> bytes:
    """A one-page PDF, written by hand."""
    stream = f"BT /F1 18 Tf 40 700 Td ({text}) Tj ET".encode("ascii")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    start, size = len(body), len(objects) + 1
    body += b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table)
    return body + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, start)


def make_docx() -> bytes:
    docx: Any = pytest.importorskip("docx")
    document = docx.Document()
    document.core_properties.title = "휴가 규정"
    document.add_heading("연차", level=1)
    document.add_paragraph("연차는 15일입니다.")
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text = "반차"
    table.rows[0].cells[1].text = "4시간"
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()


def test_markdown_metadata_comes_from_the_front_matter() -> None:
    data = f"---\ntitle: 프로필\ncategory: profile\nsource: 공식\n---\n# 하늘\n\n{KOREAN}\n".encode()

    document = parse(data, "a/b/profile.md")

    assert (document.title, document.category, document.source, document.language) == (
        "프로필",
        "profile",
        "공식",
        "ko",
    )
    assert document.text == f"# 하늘\n\n{KOREAN}"


def test_without_front_matter_the_first_heading_is_the_title_and_the_name_the_source() -> None:
    document = parse(f"# 하늘\n{KOREAN}".encode(), "../../etc/하늘.md", category="profile")

    assert (document.title, document.category, document.source) == ("하늘", "profile", "하늘.md")


@pytest.mark.parametrize(
    ("text", "encoding", "language"),
    [
        (KOREAN, "utf-8", "ko"),
        (KOREAN, "utf-8-sig", "ko"),
        (KOREAN, "cp949", "ko"),
        (KOREAN, "utf-16", "ko"),
        (JAPANESE, "shift_jis", "ja"),
        (JAPANESE, "utf-8", "ja"),
        ("Leave is fifteen days.", "ascii", "en"),
    ],
)
def test_text_is_read_in_the_encodings_of_the_region(text: str, encoding: str, language: str) -> None:
    document = parse(text.encode(encoding), "a.txt")

    assert (document.text, document.language) == (text, language)


def test_html_gives_what_a_reader_sees() -> None:
    html = (
        "<html><head><title>휴가 안내</title><style>p{}</style></head><body><script>alert(1)</script>"
        "<h2>연차</h2><p>연차는&nbsp;<b>15일</b>입니다.</p><ul><li>반차</li><li>병가</li></ul>"
        "<table><tr><th>구분</th><th>시간</th></tr><tr><td>반차</td><td>4</td></tr></table></body></html>"
    )

    document = parse(html.encode(), "x", media_type="text/html; charset=utf-8")

    assert document.title == "휴가 안내"
    assert document.text == "## 연차\n\n연차는 15일입니다.\n\n- 반차\n- 병가\n\n구분 | 시간\n반차 | 4"


def test_pdf_text_is_extracted() -> None:
    pytest.importorskip("pypdf")

    assert parse(make_pdf("Annual leave is fifteen days a year."), "leave.pdf").text.startswith("Annual leave")


def test_docx_gives_headings_paragraphs_and_tables() -> None:
    document = parse(make_docx(), "leave.docx")

    assert document.title == "휴가 규정"
    assert document.text == "# 연차\n\n연차는 15일입니다.\n\n반차 | 4시간"


def test_a_scan_without_recognition_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)

    with pytest.raises(UnsupportedMedia, match="Install tesseract-ocr"):
        parse(b"\x89PNG", "scan.png")
    pytest.importorskip("pypdf")
    with pytest.raises(UnsupportedMedia, match="tesseract"):
        parse(make_pdf(""), "scan.pdf")


def test_a_zip_bomb_is_refused_before_it_is_unpacked() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("word/document.xml", b"0" * 5_000_000)

    with pytest.raises(TooLarge, match="times its size"):
        parse(stream.getvalue(), "bomb.docx")


@pytest.mark.parametrize(
    ("data", "name", "error"),
    [
        (b"x" * 101, "a.txt", TooLarge),
        (b"   \n", "a.txt", Unprocessable),
        (b"\x00\x01\x02abc", "a.txt", Unprocessable),
        (b"\xff\xff\xff\xff\x80", "a.txt", Unprocessable),
        (b"---\n[1\n---\nx", "a.md", Unprocessable),
        (b"---\n- 1\n---\nx", "a.md", Unprocessable),
        (b"hello", "a.exe", UnsupportedMedia),
        (b"hello", "noname", UnsupportedMedia),
        (b"no zip", "a.docx", Unprocessable),
        (b"<div>" * 15 + b"x", "a.html", Unprocessable),
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes, name: str, error: type[RequestError]) -> None:
    with pytest.raises(error):
        parse(data, name, limits=Limits(max_bytes=100, max_nesting=10))


def test_a_broken_pdf_is_refused() -> None:
    pytest.importorskip("pypdf")

    with pytest.raises(Unprocessable, match=r"a\.pdf"):
        parse(b"%PDF-1.4 nothing", "a.pdf")


@settings(deadline=None, max_examples=80)
@given(
    st.binary(max_size=200),
    st.sampled_from([s for s in supported_suffixes() if s in (".md", ".txt", ".html", ".docx")]),
)
def test_any_bytes_are_read_or_refused_but_never_crash(data: bytes, suffix: str) -> None:
    with suppress(RequestError):  # anything else fails the test
        assert parse(data, "a" + suffix).text.strip()


def test_a_knowledge_folder_is_loaded_by_name(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("---\ncategory: album\n---\n# 유성우\n노래", encoding="utf-8")
    (tmp_path / "a.md").write_text("# 하늘\n메인보컬", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")

    documents = load_knowledge(tmp_path)

    assert [(d.title, d.category) for d in documents] == [("하늘", "general"), ("유성우", "album")]


def test_a_broken_knowledge_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.md").write_text("---\n[\n---\nx", encoding="utf-8")

    with pytest.raises(ConfigurationError, match=r"bad\.md"):
        load_knowledge(tmp_path)
    with pytest.raises(ConfigurationError, match="Create it"):
        load_knowledge(tmp_path / "missing")
