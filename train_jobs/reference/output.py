"""Finished models appear as a whole: nobody ever reads half a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def swap_in(output: Path, keep: tuple[str, ...] = ()) -> Iterator[Path]:
    """An empty folder beside ``output`` that takes its place when the block ends well.

    Files named in ``keep`` (the model card) are carried over from the folder that is replaced.
    """
    fresh = output.with_name(f".{output.name}.new")
    old = output.with_name(f".{output.name}.old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    yield fresh
    for name in keep:
        if (output / name).is_file():
            shutil.copy2(output / name, fresh / name)
    if output.exists():
        output.rename(old)
    fresh.rename(output)
    shutil.rmtree(old, ignore_errors=True)


def write_small(model: Any, tokenizer: Any, folder: Path, precision: Any) -> None:
    """Model and tokenizer, the weights in a torch dtype of 16 bits that is read back as float32."""
    model.to(precision).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"dtype": "float32"}
    settings.pop("attn_implementation", None)
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / "model.safetensors").chmod(0o644)
