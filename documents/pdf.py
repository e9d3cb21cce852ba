"""PDF to text; pages that hold only pictures go through text recognition."""

from __future__ import annotations

import io
from typing import Any

from core.errors import TooLarge, Unprocessable
from documents.limits import Limits
from documents.ocr import read_scanned_pdf

_MIN_CHARS_PER_PAGE = 8
"""A PDF with fewer letters a page than this is taken for a scan."""


def read_pdf(data: bytes, source: str, limits: Limits) -> tuple[str, str]:
    """Text, pages apart by an empty line, and the title from the file's properties."""
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        reader: Any = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unprocessable(f"{source} is protected by a password. Remove the protection.")
        pages = len(reader.pages)
        if pages > limits.max_pages:
            raise TooLarge(f"{source} has {pages} pages; {limits.max_pages} are allowed. Split it.")
        text = "\n\n".join(_page_texts(reader, limits))
        title = str((reader.metadata and reader.metadata.title) or "").strip()
    except (PyPdfError, ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        raise Unprocessable(f"{source} is no readable PDF ({error}). Export it again.") from error
    if len("".join(text.split())) < _MIN_CHARS_PER_PAGE * pages:
        text = read_scanned_pdf(data, source, limits, pages)
    return text, title


def _page_texts(reader: Any, limits: Limits) -> list[str]:
    texts: list[str] = []
    for page in reader.pages:
        texts.append(page.extract_text().strip())
        if sum(map(len, texts)) > limits.max_chars:
            raise TooLarge(f"The PDF holds more than {limits.max_chars} characters. Split it.")
    return texts
