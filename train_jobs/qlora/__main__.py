"""The final fine-tuning job: a LoRA adapter on a 4-bit base, with Ray Train.

On one machine, with a local Ray of its own::

    python -m train_jobs.qlora --config train_jobs/configs/haneul.yaml learning_rate=1e-3

It saves checkpoints, and the same command goes on from the last one; ``--stop-after 10h`` ends it in time. On a
cluster, where ``ARTISTMIND_HOME`` names a directory that all nodes share::

    ray job submit --working-dir . -- python -m train_jobs.qlora --config train_jobs/configs/llama31-8b.yaml
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from core.errors import ArtistMindError, ConfigurationError
from core.logs import setup_logging
from core.settings import get_settings
from train_jobs.config import load_config
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.duration import parse_duration
from train_jobs.qlora.job import prepare


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, build, run. 0: done, or ended by ``--stop-after``; 2: the settings are wrong and nothing was started;
    1: the run failed."""
    began = time.time()
    parser = argparse.ArgumentParser(prog="python -m train_jobs.qlora", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="YAML file, see train_jobs/configs")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parser.add_argument(
        "--stop-after",
        type=duration,
        metavar="10h",
        help="stop with a checkpoint after 90s, 30m, 10h; then run again",
    )
    options = parser.parse_args(arguments)
    try:
        config = load_config(QLoraConfig, options.config, options.overrides)
        setup_logging(get_settings())
        # Checking the settings and reading the data takes minutes, which a time limit does not give back.
        stop_at = began + options.stop_after if options.stop_after else None
        if not prepare(config, get_settings()).run(stop_at):
            print("stopped in time, with a checkpoint: run the same command again to go on")
    except ArtistMindError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1
    return 0


def duration(text: str) -> int:
    """``10h`` in seconds, as argparse wants its errors."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    raise SystemExit(main())
