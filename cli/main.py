"""Entry of the ``artistmind`` command: puts the nouns together and turns our errors into one line."""

from __future__ import annotations

import sys

import typer

from cli import cards, chat, data, evaluate, platform

app = typer.Typer(
    name="artistmind",
    help="Run characters that remember: start the platform, look at it, talk to it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: artistmind up · artistmind chat --name 서윤 · artistmind status --json · artistmind down",
)
for command in (platform.up, platform.down, platform.status, chat.chat, platform.logs, platform.env):
    app.command()(command)
app.add_typer(cards.app, name="card")
app.add_typer(data.app, name="data")
app.add_typer(evaluate.app, name="eval")


def main() -> None:
    """Run the command line; exit code 1 and one line on standard error for everything we expected."""
    from core.errors import ArtistMindError

    try:
        app()
    except ArtistMindError as error:
        print(f"artistmind: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
