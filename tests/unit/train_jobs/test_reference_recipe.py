from __future__ import annotations

import sys
from pathlib import Path

import pytest

from core.errors import ConfigurationError, SetupError
from data_pipelines.grammar.voices import characters
from train_jobs.reference.recipe import Step, run, steps


def test_every_character_gets_a_data_set_and_an_adapter_with_settings_that_exist() -> None:
    plan = steps("v9", None)
    names = [step.name for step in plan]
    assert names[:4] == ["tokenizer", "base", "embedder", "reranker"]
    for character in characters():
        assert names.index(f"data-{character}") < names.index(f"adapter-{character}")
        (train,) = [step for step in plan if step.name == f"adapter-{character}"]
        assert (Path(__file__).parents[3] / train.arguments[2]).is_file()
        assert f"data.version={character}@v9" in train.arguments


def test_a_failed_step_ends_the_recipe_and_says_where_to_go_on(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    plan = [Step("bad", ("no_such_module",)), Step("after", ("touch",))]
    with pytest.raises(SetupError, match="--from bad"):
        run(plan, None)
    assert not mark.exists()


def test_going_on_skips_what_is_done() -> None:
    run([Step("bad", ("no_such_module",)), Step("good", ("platform",))], "good")


def test_an_unknown_step_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="bad"):
        run([Step("bad", ("no_such_module",))], "other")
    assert Step("x", ("y",)).command == [sys.executable, "-m", "y"]
