"""Rows in Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.errors import ConfigurationError
from data_pipelines.manifest import Shard, SplitRecord
from data_pipelines.rows import Row
from data_pipelines.sources.base import file_hash

ROWS_PER_SHARD = 2_000


def write_split(folder: Path, split: str, rows: Sequence[Row], rows_per_shard: int = ROWS_PER_SHARD) -> SplitRecord:
    """Write rows, in the order given, as ``<split>/part-00000.parquet`` and so on."""
    (folder / split).mkdir(parents=True)
    starts = range(0, len(rows), rows_per_shard) or range(1)
    shards = [
        _write(folder, f"{split}/part-{number:05}.parquet", rows[start : start + rows_per_shard])
        for number, start in enumerate(starts)
    ]
    return SplitRecord(rows=len(rows), shards=tuple(shards))


def read_shard(folder: Path, shard: Shard) -> list[Row]:
    """The rows of a shard, once its bytes are those that were written."""
    import pyarrow.parquet as parquet

    path = folder / shard.file
    if not path.is_file():
        raise ConfigurationError(f"{path}: is missing; build the version again")
    if file_hash(path) != shard.sha256:
        raise ConfigurationError(f"{path}: is not what was written (SHA-256 differs); build the version again")
    try:
        return [Row.model_validate(record) for record in parquet.read_table(path).to_pylist()]
    except ValidationError as error:
        raise ConfigurationError(f"{path}: holds rows of another schema: {error.errors()[0]['msg']}") from error


def _write(folder: Path, name: str, rows: Sequence[Row]) -> Shard:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    table = arrow.Table.from_pylist([row.model_dump(mode="json") for row in rows], schema=_schema())
    parquet.write_table(table, folder / name, compression="zstd")
    return Shard(file=name, rows=len(rows), sha256=file_hash(folder / name))


def _schema() -> Any:
    import pyarrow as arrow

    text, texts = arrow.string(), arrow.list_(arrow.string())
    message = arrow.struct([("role", text), ("content", text)])
    columns = dict.fromkeys(Row.model_fields, text)
    columns |= {"messages": arrow.list_(message), "style_tags": texts, "safety_flags": texts}
    return arrow.schema(list(columns.items()))
