"""``artistmind card``: characters from and for other programs, and a check of all that a folder holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(help="Import, export and check characters.", no_args_is_help=True, rich_markup_mode=None)


@app.command("import")
def import_card(
    file: Annotated[Path, typer.Argument(help="A Character Card V2 or V3: .json, .png or .charx.")],
    id: Annotated[
        str | None, typer.Option("--id", help="Name of the character here [default: from the card].")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Folder of characters [default: personas/cards].")] = None,
    language: Annotated[
        Literal["ko", "ja", "en"] | None, typer.Option(help="Language it speaks [default: told by the script].")
    ] = None,
    trusted: Annotated[
        bool, typer.Option("--trusted", help="Take over safety text and answers: only for your own exports.")
    ] = False,
) -> None:
    """Make a character of a card file. Safety text and answers to blocked messages are always ours.

    \b
    Examples:
      artistmind card import mina.png
      artistmind card import 미나.charx --id mina --language ko
    """
    from personas.interchange import folder
    from personas.interchange.files import read_card
    from personas.interchange.mapping import ImportOptions

    imported = read_card(file, ImportOptions(persona_id=id, language=language, trusted=trusted))
    written = folder.save(imported, _cards_dir(to))
    lore = len(imported.card.lorebook.entries) if imported.card.lorebook else 0
    typer.echo(f"{imported.card.display_name}: {written} ({len(imported.seeds)} seeds, {lore} lore entries)")
    for note in imported.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"next: read {written / 'card.yaml'}, then `artistmind card check {imported.card.id}`")


@app.command("export")
def export_card(
    name: Annotated[str, typer.Argument(help="Which character.")],
    format: Annotated[Literal["json", "png", "charx"], typer.Option(help="Kind of file.")] = "png",
    spec: Annotated[Literal["v2", "v3"], typer.Option(help="Version of the format.")] = "v3",
    out: Annotated[Path | None, typer.Option(help="File to write [default: NAME.FORMAT].")] = None,
    from_: Annotated[Path | None, typer.Option("--from", help="Folder of characters.")] = None,
) -> None:
    """Write a character as a card that other programs read.

    \b
    Examples:
      artistmind card export haneul --format json
      artistmind card export haneul --format charx --out /tmp/haneul.charx
    """
    from core.errors import ConfigurationError
    from personas.interchange import folder
    from personas.interchange.files import write_card

    target = out or Path(f"{name}.{format}")
    data = write_card(folder.load(_folder_of(name, _cards_dir(from_))), format, spec)
    try:
        with target.open("xb") as file:
            file.write(data)
    except FileExistsError as error:
        raise ConfigurationError(f"{target}: exists already; name another file with --out") from error
    except OSError as error:
        raise ConfigurationError(f"{target}: cannot be written ({error.strerror}); check the path") from error
    typer.echo(f"{target} ({len(data):,} bytes)")


@app.command("check")
def check(
    name: Annotated[str | None, typer.Argument(help="Which character [default: all].")] = None,
    from_: Annotated[Path | None, typer.Option("--from", help="Folder of characters.")] = None,
) -> None:
    """Read all that a character's folder holds and name every file that is wrong; exit code 1 if one is.

    \b
    Examples:
      artistmind card check
      artistmind card check haneul
    """
    cards_dir = _cards_dir(from_)
    folders = [_folder_of(name, cards_dir)] if name else sorted(path.parent for path in cards_dir.glob("*/card.yaml"))
    if not folders:
        typer.echo(f"{cards_dir}: holds no <name>/card.yaml; set ARTISTMIND_CARDS_DIR or give --from", err=True)
        raise typer.Exit(1)
    problems = 0
    for folder in folders:
        found = folder_problems(folder)
        problems += len(found)
        typer.echo(f"{folder.name}: {'ok' if not found else f'{len(found)} problem(s)'}")
        for problem in found:
            typer.echo(f"  {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def folder_problems(folder: Path) -> list[str]:
    """One line for each part of a character's folder that cannot be read; each names file, field and remedy."""
    from core.errors import ArtistMindError
    from data_pipelines.grammar.intents import load_intents
    from personas.loader import load_card
    from personas.seeds import load_seeds

    parts: list[Callable[[], object]] = [
        lambda: load_card(folder / "card.yaml"),
        lambda: load_seeds(folder / "seeds.jsonl"),
        *(lambda path=path: load_intents(path) for path in _intent_parts(folder)),
        *(lambda path=path: _check_knowledge(path) for path in sorted((folder / "knowledge").glob("*.md"))),
    ]
    problems = []
    for part in parts:
        try:
            part()
        except ArtistMindError as error:
            problems.append(" ".join(str(error).split()))
    return problems


def _intent_parts(folder: Path) -> list[Path]:
    return [folder / "intents"] if (folder / "intents").is_dir() else []


def _check_knowledge(path: Path) -> None:
    """A document must be readable and say what it is: nothing else tells the character where a fact comes from."""
    import yaml

    from core.errors import ConfigurationError, RequestError
    from documents.parsers import parse

    try:
        parse(path.read_bytes(), path.name)
        head = path.read_text(encoding="utf-8-sig").replace("\r\n", "\n").split("\n---", 1)[0]
    except (OSError, UnicodeDecodeError, RequestError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    fields = yaml.safe_load(head.removeprefix("---")) if head.startswith("---") else None
    missing = [field for field in ("title", "category") if not (isinstance(fields, dict) and fields.get(field))]
    if missing:
        raise ConfigurationError(f"{path}: field '{missing[0]}' is missing; add it between --- lines at the top")


def _cards_dir(given: Path | None) -> Path:
    from core.settings import get_settings

    settings = get_settings()
    return given or settings.resolved(settings.cards_dir)


def _folder_of(name: str, cards_dir: Path) -> Path:
    from core.errors import NotFound

    folders = {path.parent.name: path.parent for path in cards_dir.glob("*/card.yaml")}
    if name not in folders:
        known = ", ".join(sorted(folders)) or "none"
        raise NotFound(f"{cards_dir}: no character '{name}'; there are: {known}", "name")
    return folders[name]
