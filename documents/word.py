"""DOCX to text. The package is examined before it is unpacked: a small file can hold gigabytes of zeros."""

from __future__ import annotations

import io
import re
import zipfile
from typing import Any

from core.errors import TooLarge, Unprocessable
from documents.limits import Limits

_MAX_PARTS = 5_000


def read_docx(data: bytes, source: str, limits: Limits) -> tuple[str, str]:
    """Text with Markdown headings and tables as rows, and the title from the file's properties."""
    _check_package(data, source, limits)
    from docx import Document as open_docx

    try:
        document: Any = open_docx(io.BytesIO(data))
        blocks = [_block(block) for block in document.iter_inner_content()]
        title = document.core_properties.title or ""
    except (KeyError, ValueError, zipfile.BadZipFile, SyntaxError) as error:  # lxml's errors are SyntaxErrors
        raise Unprocessable(f"{source} is no readable DOCX file ({error}). Save it again from Word.") from error
    return "\n\n".join(block for block in blocks if block), title.strip()


def _check_package(data: bytes, source: str, limits: Limits) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            parts = package.infolist()
    except zipfile.BadZipFile as error:
        raise Unprocessable(f"{source} is no DOCX file. Check its name, or save it again from Word.") from error
    unpacked = sum(part.file_size for part in parts)
    if len(parts) > _MAX_PARTS or unpacked > limits.max_unpacked_bytes:
        raise TooLarge(f"{source} unpacks to more than allowed. Split it, or remove embedded files.")
    if unpacked > max(len(data), 1) * limits.max_unpacked_ratio:
        raise TooLarge(f"{source} unpacks to more than {limits.max_unpacked_ratio} times its size. Save it again.")


def _block(block: Any) -> str:
    if hasattr(block, "rows"):
        return "\n".join(" | ".join(cell.text.strip() for cell in row.cells) for row in block.rows)
    text = str(block.text).strip()
    heading = re.fullmatch(r"Heading ([1-6])", block.style.name if block.style else "")
    if heading:
        return "#" * int(heading.group(1)) + " " + text
    return f"# {text}" if block.style and block.style.name == "Title" else text
