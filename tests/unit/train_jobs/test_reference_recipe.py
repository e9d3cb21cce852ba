from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import ConfigurationError, SetupError
from data_pipelines.grammar.voices import characters
from train_jobs.reference.recipe import Step, run, steps


def test_every_character_gets_a_data_set_and_an_adapter_with_settings_that_exist() -> None:
    plan = steps("v9", None)
    names = [step.name for step in plan]
    assert names[:5] == ["tokenizer", "base", "embedder", "reranker", "crisis"]
    for character in characters():
        (built,) = [at for at, step in enumerate(plan) for command in step.commands if command[1:2] == (character,)]
        (at, train) = next(
            (at, command)
            for at, step in enumerate(plan)
            for command in step.commands
            if f"data.version={character}@v9" in command
        )
        assert built < at
        assert (Path(__file__).parents[3] / train[2]).is_file()


def test_a_failed_step_ends_the_recipe_and_says_where_to_go_on(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    plan = [Step("bad", (("platform",), ("no_such_module",))), Step("after", (("touch",),))]
    with pytest.raises(SetupError, match="--from bad"):
        run(plan, None)
    assert not mark.exists()


def test_going_on_skips_what_is_done() -> None:
    run([Step("bad", (("no_such_module",),)), Step("good", (("platform",), ("platform",)), threads=1)], "good")


def test_an_unknown_step_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="bad"):
        run([Step("bad", (("no_such_module",),))], "other")
