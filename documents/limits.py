"""How much one file may cost."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Limits(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(default=20 * 1024 * 1024, ge=1)
    """Size of the file as it arrives."""

    max_chars: int = Field(default=2_000_000, ge=1)
    """Length of the extracted text."""

    max_pages: int = Field(default=500, ge=1)
    """Pages of a PDF."""

    max_ocr_pages: int = Field(default=50, ge=1)
    """Pages of a scan; each takes seconds."""

    max_pixels: int = Field(default=40_000_000, ge=1)
    """Pixels of an image."""

    max_unpacked_bytes: int = Field(default=200 * 1024 * 1024, ge=1)
    """Size of a DOCX once unpacked."""

    max_unpacked_ratio: int = Field(default=120, ge=1)
    """Unpacked size of a DOCX over its packed size."""

    max_nesting: int = Field(default=200, ge=1)
    """Depth of HTML elements."""
