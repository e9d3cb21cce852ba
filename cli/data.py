"""``artistmind data``: build, look at and compare data set versions; follow a consent through them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from data_pipelines.manifest import DatasetManifest
    from data_pipelines.sources.chat_logs import Consents

CONSENTS = Path("chat_logs/consents.jsonl")
"""Under the home folder: where consents are looked for unless said otherwise."""

app = typer.Typer(
    help="Data set versions: build, list, show, diff, trace.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="Examples: artistmind data build haneul · artistmind data show haneul@v1 · artistmind data trace c-0042",
)

Version = Annotated[str, typer.Argument(help="Name of a version, such as haneul@v1.")]
ConsentsFile = Annotated[
    Path | None, typer.Option(help="JSON lines of consents; default: <home>/chat_logs/consents.jsonl.")
]


@app.command()
def build(
    character: Annotated[str, typer.Argument(help="Whose conversations, such as haneul.")],
    ratio: Annotated[str | None, typer.Option(help="persona:worldview:safety, such as 6:2:2.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of composing, mixing and splitting.")] = None,
    version: Annotated[str | None, typer.Option(help="Name; default: the next free v<number>.")] = None,
    preset: Annotated[Path | None, typer.Option(help="YAML file in place of the shipped preset.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that filter; never changes the result.")] = None,
    strict: Annotated[bool, typer.Option(help="Fail when a count cannot be met.")] = False,
    yes: Annotated[bool, typer.Option(help="Send requests to a paid endpoint without asking again.")] = False,
) -> None:
    """Build a new version of a character's data set.

    \b
    Examples:
      artistmind data build haneul
      artistmind data build haneul --ratio 7:2:1 --seed 3 --version r721
      artistmind data build mir --preset my-preset.yaml --yes
      ray job submit --working-dir . -- python -m data_pipelines.build haneul
    """
    from core.settings import get_settings
    from data_pipelines.build import announced, describe, prepare
    from data_pipelines.config import load_preset, parse_ratio

    overrides = {
        "ratio": parse_ratio(ratio) if ratio else None,
        "seed": seed,
        "workers": workers,
        "strict": strict or None,
    }
    config = load_preset(character, overrides, preset)
    typer.echo(describe(prepare(config, get_settings(), version, confirm=announced(yes)).run()))


@app.command("list")
def list_versions() -> None:
    """All versions, oldest first.

    \b
    Example:
      artistmind data list
    """
    from data_pipelines.lineage import withdrawn
    from data_pipelines.store import dataset_store

    manifests = dataset_store().manifests()
    if not manifests:
        typer.echo("no data set yet; make one with `artistmind data build <character>`")
    consents = _consents(None)
    for manifest in manifests:
        gone = len(withdrawn(manifest, consents))
        mark = f"  {gone} withdrawn consents: build a new version" if gone else ""
        typer.echo(f"{_line(manifest)}{mark}")


@app.command()
def show(name: Version) -> None:
    """What a version holds; its rows are read and checked against the manifest.

    \b
    Example:
      artistmind data show haneul@v1
    """
    from data_pipelines.store import open_version

    dataset = open_version(name)
    typer.echo((dataset.folder / "README.md").read_text(encoding="utf-8"))
    for stage in dataset.manifest.stages:
        lost = ", ".join(f"{reason} {count}" for reason, count in stage.dropped.items())
        typer.echo(f"{stage.stage:16} {stage.rows_in:7} → {stage.rows_out:7}  {lost}")
    typer.echo(f"\nchecked: every row and file is as it was written\n{dataset.folder}")


@app.command()
def diff(before: Version, after: Version) -> None:
    """What changed between two versions.

    \b
    Example:
      artistmind data diff haneul@v1 haneul@v2
    """
    from data_pipelines.lineage import difference
    from data_pipelines.store import open_version

    found = difference(open_version(before), open_version(after))
    typer.echo(f"rows: {found.rows_new} new, {found.rows_gone} gone, {found.rows_moved} moved between the splits")
    for kind, (old, new) in found.kinds.items():
        typer.echo(f"{kind}: {old} → {new}")
    for key, (was, now) in found.settings.items():
        typer.echo(f"{key}: {was} → {now}")


@app.command()
def trace(consent_id: Annotated[str, typer.Argument(help="Id of a consent.")], consents: ConsentsFile = None) -> None:
    """Every version and every adapter that a consent touches.

    \b
    Examples:
      artistmind data trace c-0042
      artistmind data trace c-0042 --consents logs/consents.jsonl
    """
    from adapters.store import AdapterStore
    from core.settings import get_settings
    from data_pipelines.lineage import TrainedOn, trace
    from data_pipelines.store import dataset_store

    adapters = [
        TrainedOn(f"{one.persona}/{one.version}", one.dataset, one.dataset_hash)
        for one in AdapterStore(get_settings().adapter_roots).manifests()
    ]
    found = trace(consent_id, dataset_store().manifests(), adapters, _consents(consents))
    mark = "  [withdrawn]" if found.status == "withdrawn" else ""
    typer.echo(f"consent {consent_id}: {found.status}")
    for heading, names in (
        ("data set", found.versions),
        ("built on it", found.built_on_them),
        ("adapter", found.adapters),
    ):
        for name in names:
            typer.echo(f"{heading:12} {name}{mark if heading != 'built on it' else ''}")
    if not found.versions:
        typer.echo("no data set version holds rows collected under it")
    elif found.status == "withdrawn":
        typer.echo("withdrawn: build a new version without it, train again and retire these adapters")


def _line(manifest: DatasetManifest) -> str:
    kinds = " ".join(f"{kind}={count}" for kind, count in manifest.kinds.items())
    return f"{manifest.name:16} {manifest.rows:6} rows  {manifest.content_hash[:12]}  {manifest.created_at}  {kinds}"


def _consents(path: Path | None) -> Consents | None:
    """The consents of a file that was named, or of the usual place if it is there."""
    from core.settings import get_settings
    from data_pipelines.sources.chat_logs import read_consents

    usual = get_settings().home_dir / CONSENTS
    if path is None and not usual.is_file():
        return None
    return read_consents(path or usual)
