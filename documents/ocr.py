"""Text recognition for scans and images, where Tesseract is installed."""

from __future__ import annotations

import io
import shutil
from importlib import import_module
from typing import Any

from core.errors import TooLarge, Unprocessable, UnsupportedMedia
from documents.limits import Limits

LANGUAGES = "kor+jpn+eng"
_REMEDY = "Install tesseract-ocr with tesseract-ocr-kor and -jpn (and poppler-utils for PDF), or send text."


def is_available() -> bool:
    return shutil.which("tesseract") is not None


def read_image(data: bytes, source: str, limits: Limits) -> str:
    """Text of one image."""
    _require(source, "tesseract")
    image_module: Any = import_module("PIL.Image")
    try:
        image = image_module.open(io.BytesIO(data))
    except OSError as error:
        raise Unprocessable(f"{source} is no readable image. Save it as PNG or JPEG.") from error
    if image.width * image.height > limits.max_pixels:
        raise TooLarge(f"{source} has more than {limits.max_pixels} pixels. Scale it down.")
    return _recognise(image)


def read_scanned_pdf(data: bytes, source: str, limits: Limits, pages: int) -> str:
    """Text of a PDF whose pages are images."""
    _require(source, "tesseract", "pdftoppm")
    if pages > limits.max_ocr_pages:
        raise TooLarge(f"{source} is a scan of {pages} pages; {limits.max_ocr_pages} are read at most. Split it.")
    convert: Any = import_module("pdf2image").convert_from_bytes
    read = (convert(data, dpi=200, first_page=page, last_page=page)[0] for page in range(1, pages + 1))
    return "\n\n".join(_recognise(image) for image in read)


def _require(source: str, *programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise UnsupportedMedia(f"{source} is a picture of text and {', '.join(missing)} is not there. {_REMEDY}")


def _recognise(image: Any) -> str:
    tesseract: Any = import_module("pytesseract")
    available = set(tesseract.get_languages())
    wanted = [name for name in LANGUAGES.split("+") if name in available]
    return str(tesseract.image_to_string(image, lang="+".join(wanted) or None, timeout=60)).strip()
