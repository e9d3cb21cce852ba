from pathlib import Path

import pytest

from core.errors import ConfigurationError
from personas.seeds import load_seeds, written

GOOD = (
    '{"id": "a-1", "category": "talk", "context": ["사실"], '
    '"messages": [{"role": "user", "content": "안녕\\n?"}, {"role": "assistant", "content": "왔어?"}]}'
)


def test_seeds_are_written_as_they_were_read(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text(GOOD + "\n\n" + GOOD.replace("a-1", "a-2") + "\n", encoding="utf-8")
    seeds = load_seeds(path)
    assert [seed.id for seed in seeds] == ["a-1", "a-2"]
    path.write_text(written(seeds), encoding="utf-8")
    assert load_seeds(path) == seeds


def test_no_file_is_no_seeds(tmp_path: Path) -> None:
    assert load_seeds(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: field 'the whole line'"),
        (GOOD.replace('"category": "talk", ', "").replace("a-1", "b"), "line 2: field 'category'"),
        (GOOD.replace('"role": "assistant"', '"role": "user"'), "line 2: .*alternate"),
        (GOOD.replace('"assistant"', '"system"'), r"line 2: field 'messages\.1\.role'"),
        (GOOD, "a-1 stands twice; rename"),
    ],
)
def test_an_error_names_file_line_and_field(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text(f"{GOOD}\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=rf"seeds\.jsonl.*{message}"):
        load_seeds(path)
