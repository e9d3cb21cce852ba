"""Command line of the reference trainings.

python -m train_jobs.reference all --version v2 --small-talk PATH.csv
python -m train_jobs.reference tokenizer
python -m train_jobs.reference base minutes=2
python -m train_jobs.reference embedder
python -m train_jobs.reference reranker
python -m train_jobs.reference dialogues --character haneul --count 6000 --out rows.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from core.errors import ArtistMindError
from core.settings import get_settings


def main(arguments: list[str] | None = None) -> int:
    """Run one command; errors on purpose are one line."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ArtistMindError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train_jobs.reference", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)
    for name, run, text in (
        ("tokenizer", _tokenizer, "build the tokenizer from the project's own texts"),
        ("base", _base, "train the chat model"),
        ("embedder", _embedder, "train the embedder"),
        ("reranker", _reranker, "train the reranker, from the embedder's words"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--config", default=name, help="name under configs/ or path of a YAML file")
        command.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of the configuration")
        command.set_defaults(run=run)
    everything = commands.add_parser("all", help="train every model that ships, in about three hours")
    everything.add_argument("--version", required=True, help="name of the data sets and adapters, such as v2")
    everything.add_argument("--small-talk", type=Path, help="CSV with the columns Q and A")
    everything.add_argument("--from", dest="first", help="step to go on from")
    everything.set_defaults(run=_all)
    dialogues = commands.add_parser("dialogues", help="write a character's conversations as JSON lines")
    dialogues.add_argument("--character", required=True)
    dialogues.add_argument("--count", type=int, default=1000)
    dialogues.add_argument("--seed", type=int, default=0)
    dialogues.add_argument("--out", type=Path, help="file to write; standard output if not given")
    dialogues.set_defaults(run=_dialogues)
    return parser


def _tokenizer(options: argparse.Namespace) -> None:
    from train_jobs.reference.config import TokenizerConfig, load_config
    from train_jobs.reference.corpus import vocabulary_texts
    from train_jobs.reference.tokenizer import TEMPLATE, build_tokenizer

    config = load_config(TokenizerConfig, options.config, options.overrides)
    template = TEMPLATE.read_text(encoding="utf-8")
    tokenizer = build_tokenizer(vocabulary_texts(), config.latin_merges, template, config.min_count)
    tokenizer.save_pretrained(str(get_settings().resolved(config.output)))
    print(f"{len(tokenizer)} tokens in {config.output}")


def _base(options: argparse.Namespace) -> None:
    from train_jobs.reference.base import BaseTraining
    from train_jobs.reference.config import BaseConfig, load_config

    BaseTraining.prepare(load_config(BaseConfig, options.config, options.overrides)).run()


def _embedder(options: argparse.Namespace) -> None:
    from train_jobs.reference.config import EmbedderConfig, load_config
    from train_jobs.reference.embedder import train_embedder

    train_embedder(load_config(EmbedderConfig, options.config, options.overrides))


def _reranker(options: argparse.Namespace) -> None:
    from train_jobs.reference.config import RerankerConfig, load_config
    from train_jobs.reference.reranker import train_reranker

    train_reranker(load_config(RerankerConfig, options.config, options.overrides))


def _all(options: argparse.Namespace) -> None:
    from train_jobs.reference.recipe import run, steps

    run(steps(options.version, options.small_talk), options.first)


def _dialogues(options: argparse.Namespace) -> None:
    from train_jobs.qlora.data import composed_rows

    rows = composed_rows(options.character, options.count, options.seed)
    lines = "".join(json.dumps({"messages": row}, ensure_ascii=False) + "\n" for row in rows)
    if options.out:
        options.out.write_text(lines, encoding="utf-8")
    else:
        sys.stdout.write(lines)


if __name__ == "__main__":
    raise SystemExit(main())
