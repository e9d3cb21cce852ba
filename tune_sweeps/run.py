"""Sweeps over the settings of a fine-tuning job, on Ray Tune.

On one machine, with a local Ray of its own::

    python -m tune_sweeps.run rank --config tune_sweeps/configs/local.yaml

On a cluster, where ``ARTISTMIND_HOME`` names a directory that all nodes share::

    ray job submit --working-dir . -- python -m tune_sweeps.run all --config tune_sweeps/configs/gpu.yaml
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
from tune_sweeps.config import SweepConfig
from tune_sweeps.sweep import run_sweep


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, build, run. 2: the settings are wrong and nothing was started; 1: the sweep failed."""
    parser = argparse.ArgumentParser(prog="python -m tune_sweeps.run", description=__doc__.splitlines()[0])
    parser.add_argument("axis", help="rank, lr, ratio, base_model, another axis of the settings, or all")
    parser.add_argument("--config", type=Path, required=True, help="YAML file, see tune_sweeps/configs")
    parser.add_argument("--resume", action="store_true", help="go on with a sweep that was interrupted")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    # Overrides may stand before and after the options.
    options = parser.parse_intermixed_args(arguments)
    try:
        config = load_config(SweepConfig, options.config, options.overrides)
        setup_logging(get_settings())
        best = run_sweep(options.axis, config, get_settings(), options.resume)
    except ArtistMindError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1
    except KeyboardInterrupt:
        print("interrupted: run the same command with --resume to go on", file=sys.stderr)
        return 130
    print(best)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
