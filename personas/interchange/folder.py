"""A character's folder, written from an imported card and read for an exported one."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import yaml

from core.errors import ConfigurationError
from personas.interchange.charx import MAX_UNPACKED_BYTES, is_safe_path
from personas.interchange.files import ImportedCard
from personas.loader import load_card
from personas.seeds import load_seeds, written

PORTRAIT = "portrait.png"
ASSETS = "assets"


def save(imported: ImportedCard, cards_dir: Path) -> Path:
    """Write ``<cards_dir>/<id>``, whole or not at all.

    Raises:
        ConfigurationError: There is such a character already, or the folder cannot be written.
    """
    folder = cards_dir / imported.card.id
    if folder.exists():
        raise ConfigurationError(f"{folder}: exists already; choose another name with --id, or remove it first")
    try:
        cards_dir.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{imported.card.id}-", dir=cards_dir))
        try:
            _write(imported, draft)
            draft.chmod(0o755)
            draft.rename(folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    except OSError as error:
        raise ConfigurationError(f"{folder}: cannot be written ({error}); check the path and its rights") from error
    return folder


def load(folder: Path) -> ImportedCard:
    """A character's card, seeds, portrait and further files."""
    portrait = folder / PORTRAIT
    return ImportedCard(
        card=load_card(folder / "card.yaml"),
        seeds=tuple(load_seeds(folder / "seeds.jsonl")),
        portrait=portrait.read_bytes() if portrait.is_file() else None,
        assets=_assets(folder / ASSETS),
    )


def _write(imported: ImportedCard, folder: Path) -> None:
    card = imported.card.model_dump(mode="json", exclude_unset=True)
    text = yaml.safe_dump(card, allow_unicode=True, sort_keys=False, width=100)
    (folder / "card.yaml").write_text(text, encoding="utf-8")
    if imported.seeds:
        (folder / "seeds.jsonl").write_text(written(imported.seeds), encoding="utf-8")
    if imported.portrait:
        (folder / PORTRAIT).write_bytes(imported.portrait)
    for path, content in imported.assets.items():
        assert is_safe_path(path), "paths were checked when the file was read"
        target = folder / ASSETS / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _assets(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    if sum(path.stat().st_size for path in files) > MAX_UNPACKED_BYTES:
        raise ConfigurationError(f"{folder}: holds more than {MAX_UNPACKED_BYTES // 2**20} MiB; remove files")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
