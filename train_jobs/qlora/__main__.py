"""The final fine-tuning job: a LoRA adapter on a 4-bit base, with Ray Train.

On one machine, with a local Ray of its own::

    python -m train_jobs.qlora --config train_jobs/configs/haneul.yaml learning_rate=1e-3

On a cluster, where ``ARTISTMIND_HOME`` names a directory that all nodes share::

    ray job submit --working-dir . -- python -m train_jobs.qlora --config train_jobs/configs/llama31-8b.yaml
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from core.errors import ArtistMindError, ConfigurationError
from core.logs import setup_logging
from core.settings import get_settings
from train_jobs.config import load_config
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.job import prepare


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, build, run. 2: the settings are wrong and nothing was started; 1: the run failed."""
    parser = argparse.ArgumentParser(prog="python -m train_jobs.qlora", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="YAML file, see train_jobs/configs")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    options = parser.parse_args(arguments)
    try:
        config = load_config(QLoraConfig, options.config, options.overrides)
        setup_logging(get_settings())
        prepare(config, get_settings()).run()
    except ArtistMindError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
