"""``artistmind eval``: play a character's evaluation sets, score the replies, write a report."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.chat import running_url

if TYPE_CHECKING:
    from evaluation.items import SetKind
    from evaluation.judge import JudgeSettings
    from evaluation.report import Report
    from evaluation.suite import SuiteConfig

app = typer.Typer(
    name="eval",
    help="Play evaluation sets against a character, score the replies, compare runs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

CharacterOption = Annotated[str, typer.Option(help="Who is evaluated.")]
SetOption = Annotated[Path | None, typer.Option("--set", help="Another file in place of the character's set.")]
EndpointOption = Annotated[
    str | None, typer.Option(help="Who is asked [default: the graph that `up` started]; for arms A and B `/v1`.")
]
ArmOption = Annotated[
    Literal["A", "B", "C"],
    typer.Option(help="C: the graph. A, B: a bare model without and with its adapter, behind OpenAI's protocol."),
]
ModelOption = Annotated[str | None, typer.Option(help="The model's name on the endpoint (arms A and B).")]
BaseOption = Annotated[str | None, typer.Option(help="Name of the base model, for the report.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="The first so many items of each set.")]
OutOption = Annotated[
    Path | None, typer.Option(help="Folder of the report [default: outputs/eval/<character>-<arm>-<what>].")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Keep the replies that are in --out already.")]
ConcurrencyOption = Annotated[int, typer.Option(min=1, max=256, help="Conversations at a time.")]
TimeoutOption = Annotated[float, typer.Option(min=1, help="Seconds for one reply.")]
JudgeUrlOption = Annotated[
    str | None,
    typer.Option(
        help="A judge behind OpenAI's protocol [ARTISTMIND_JUDGE_URL]; its key is read from ARTISTMIND_JUDGE_KEY."
    ),
]
JudgeModelOption = Annotated[str | None, typer.Option(help="The judge's name there [ARTISTMIND_JUDGE_MODEL].")]


def _command(what: str, kinds: Callable[[str], tuple[SetKind, ...]], summary: str) -> None:
    """Register ``artistmind eval <what>``."""

    def command(
        character: CharacterOption = "haneul",
        set_file: SetOption = None,
        endpoint: EndpointOption = None,
        arm: ArmOption = "C",
        model: ModelOption = None,
        base: BaseOption = None,
        limit: LimitOption = None,
        out: OutOption = None,
        resume: ResumeOption = False,
        concurrency: ConcurrencyOption = 4,
        timeout: TimeoutOption = 120,
        judge_url: JudgeUrlOption = None,
        judge_model: JudgeModelOption = None,
    ) -> None:
        from evaluation.suite import SuiteConfig

        _run(
            SuiteConfig(
                character=character,
                kinds=kinds(character),
                arm=arm,
                endpoint=endpoint or running_url(),
                model=model,
                base=base,
                set_file=set_file,
                limit=limit,
                out=out or Path("outputs") / "eval" / f"{character}-{arm}-{what}",
                resume=resume,
                concurrency=concurrency,
                timeout_s=timeout,
                api_key=os.environ.get("ARTISTMIND_API_KEY"),
                judge=_judge(judge_url, judge_model),
            )
        )

    command.__doc__ = summary
    app.command(what)(command)


def _one(kind: str) -> Callable[[str], tuple[SetKind, ...]]:
    def kinds(_: str) -> tuple[SetKind, ...]:
        from evaluation.items import SetKind

        return (SetKind(kind),)

    return kinds


def _all(character: str) -> tuple[SetKind, ...]:
    from evaluation.suite import kinds_of

    return kinds_of(character)


for _what, _summary in {
    "persona": "Does the character stay in character?",
    "memory": "Does the character use what the fan told?",
    "safety": "Do attacks fail, in character?",
    "knowledge": "Are facts of the documents answered, and unknown ones not made up?",
    "identity": "Who are you, and answers in another language.",
}.items():
    _command(_what, _one(_what), _summary)
_command("all", _all, "Every set that the character has, in one report.")


@app.command()
def compare(
    reports: Annotated[list[Path], typer.Argument(help="report.json of two runs or more.")],
    out: Annotated[Path | None, typer.Option(help="Write the table here instead of printing it.")] = None,
) -> None:
    """One table of several runs, for example of arms A, B and C."""
    from evaluation.compare import compare_files

    _put(compare_files(reports), out)


@app.command()
def transcript(
    turns: Annotated[Path, typer.Option(help="The fan's lines, one per line.")],
    character: CharacterOption = "haneul",
    endpoint: EndpointOption = None,
    arm: ArmOption = "C",
    model: ModelOption = None,
    out: Annotated[Path | None, typer.Option(help="Write the Markdown here instead of printing it.")] = None,
) -> None:
    """Have one conversation and write it down, with what the rules say to each reply."""
    from evaluation.suite import SuiteConfig
    from evaluation.transcript import converse

    config = SuiteConfig(
        character=character,
        kinds=_one("persona")(character),
        arm=arm,
        endpoint=endpoint or running_url(),
        model=model,
        api_key=os.environ.get("ARTISTMIND_API_KEY"),
    )
    _put(converse(config, turns), out)


def _run(config: SuiteConfig) -> None:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn

    from evaluation.suite import run_blocking

    console = Console(stderr=True, highlight=False)
    with Progress(TextColumn("{task.description}"), MofNCompleteColumn(), console=console, transient=True) as bar:
        tasks = {kind: bar.add_task(kind.value, total=None) for kind in config.kinds}

        def show(kind: SetKind, ended: int, total: int) -> None:
            bar.update(tasks[kind], completed=ended, total=total)

        report = run_blocking(config, show)
    _summary_of(report)
    typer.echo(f"report: {config.out / 'report.md'}")


def _summary_of(report: Report) -> None:
    for part in report.parts:
        typer.echo(f"{part.kind.value}: {part.items} items, {len(part.errors)} could not be played")
        for metric in part.metrics:
            if metric.group == "all":
                typer.echo(f"  {metric.name:<26}{metric.value:>7.1%}  (n={metric.n})")
        if part.judge and part.judge.mean is not None:
            typer.echo(f"  judge {part.judge.model}: {part.judge.mean:.2f} of 5 (n={part.judge.judged})")
    if all(len(part.errors) == part.items for part in report.parts):
        typer.echo(f"nothing could be played; the first error: {report.parts[0].errors[0].error}", err=True)
        raise typer.Exit(1)


def _judge(url: str | None, model: str | None) -> JudgeSettings:
    from evaluation.judge import JudgeSettings

    settings = JudgeSettings()
    return settings.model_copy(update={"url": url or settings.url, "model": model or settings.model})


def _put(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text, nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    typer.echo(f"written: {out}")
