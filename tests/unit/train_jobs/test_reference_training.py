from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT
from train_jobs.reference.config import BaseConfig, Shape, load_config
from train_jobs.reference.packing import Document, chat_document, collate, fill_row
from train_jobs.reference.tokenizer import TEMPLATE, build_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer(["hello"], latin_merges=0, template=TEMPLATE.read_text(encoding="utf-8"))


def document(*ids: int, weight: float = 1.0) -> Document:
    return Document(ids, (weight,) * len(ids))


def test_overrides_reach_nested_fields() -> None:
    config = load_config(BaseConfig, "base", ["shape.hidden=128", "shape.heads=2", "minutes=1"])
    assert (config.shape.hidden, config.minutes) == (128, 1)


@pytest.mark.parametrize("override", ["no_such_field=1", "minutes=-1", "minutes"])
def test_bad_overrides_are_named(override: str) -> None:
    with pytest.raises(ConfigurationError, match=override.partition("=")[0]):
        load_config(BaseConfig, "base", [override])


def test_loss_counts_replies_fully_and_the_rest_a_little(tokenizer: Any) -> None:
    messages = [{"role": "user", "content": "안녕"}, {"role": "assistant", "content": "응"}]
    found = chat_document(tokenizer, messages, context_weight=0.1)
    spoken = [token for token, weight in zip(found.ids, found.weights, strict=True) if weight == 1.0]
    assert tokenizer.decode(spoken) == "응<|im_end|>"
    assert set(found.weights) == {0.1, 1.0}


def test_rows_hold_whole_documents_and_lose_none() -> None:
    rng = random.Random(0)
    made = [document(*([number + 1] * rng.randint(3, 60))) for number in range(400)]
    stream = iter([*made, *(document(9999) for _ in range(1000))])
    pool: list[Document] = []
    rows = [fill_row(pool, stream, 64) for _ in range(150)]
    assert all(sum(len(item.ids) for item in row) <= 64 for row in rows)
    packed = [item.ids[0] for row in rows for item in row if item.ids[0] != 9999]
    assert len(packed) == len(set(packed))
    assert set(range(1, 151)) <= set(packed)


def test_last_token_of_a_document_predicts_nothing() -> None:
    batch = collate([[document(1, 2, 3), document(4, 5)]], length=7, padding=0)
    assert batch.inputs.tolist() == [[1, 2, 3, 4, 5, 0, 0]]
    assert batch.weights.tolist() == [[1, 1, 0, 1, 0, 0, 0]]
    assert batch.targets[0, :2].tolist() == [2, 3]
    assert batch.targets[0, 3].item() == 5


def test_tokens_see_their_own_document_up_to_themselves() -> None:
    seen = collate([[document(1, 2), document(3, 4)]], length=4, padding=0).bias[0, 0] == 0
    assert seen.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]


def test_copy_documents_count_only_what_was_told_before(tokenizer: Any) -> None:
    from train_jobs.reference.corpus import copy_document

    found = copy_document(tokenizer, random.Random(1))
    first = tokenizer.decode([i for i, w in zip(found.ids, found.weights, strict=True) if w == 0.0])
    told_again = tokenizer.decode([i for i, w in zip(found.ids, found.weights, strict=True) if w == 1.0])
    assert told_again
    assert set(told_again) <= set(first)


def test_packed_documents_do_not_influence_each_other(tokenizer: Any) -> None:
    import torch

    from train_jobs.reference.model import build_model

    model = build_model(Shape(hidden=64, layers=2, heads=1, inner=64), tokenizer, seed=0)
    torch.nn.init.normal_(model.model.layers[0].self_attn.o_proj.weight, std=0.1)
    alone = collate([[document(5, 6, 7)]], 3, 0)
    beside = collate([[document(40, 41, 42, 43), document(5, 6, 7)]], 7, 0)
    with torch.no_grad():
        first = model.model(input_ids=alone.inputs, attention_mask=alone.bias).last_hidden_state
        second = model.model(input_ids=beside.inputs, attention_mask=beside.bias).last_hidden_state
    assert torch.allclose(first[0], second[0, 4:], atol=0.05)


def test_orthogonalised_updates_have_singular_values_near_one() -> None:
    import torch

    from train_jobs.reference.optimiser import orthogonalised

    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(3, 48, 96)).float())
    assert 0.4 < float(values.min()) <= float(values.max()) < 1.6


def test_grafted_model_copies_before_any_training(tokenizer: Any) -> None:
    import torch

    from train_jobs.reference.corpus import copy_document
    from train_jobs.reference.graft import graft
    from train_jobs.reference.model import build_model

    rng = random.Random(3)
    batch = collate([[copy_document(tokenizer, rng).cut(160)] for _ in range(16)], 160, 0)
    model = build_model(Shape(layers=2), tokenizer, seed=1)
    counted = batch.weights == 1.0

    def log_probability() -> float:
        with torch.no_grad():
            states = model.model(input_ids=batch.inputs, attention_mask=batch.bias).last_hidden_state
            logits = model.lm_head(states[counted]).float().log_softmax(-1)
        return float(logits.gather(1, batch.targets[counted][:, None]).mean())

    before = log_probability()
    graft(model, batch)
    assert log_probability() > before + 0.5


@pytest.mark.training
def test_two_steps_save_a_model_that_loads_and_resumes(tmp_path: Path, tokenizer: Any) -> None:
    from transformers import AutoModelForCausalLM

    from train_jobs.reference.base import BaseTraining

    output = tmp_path / "model"
    tokenizer.save_pretrained(str(output))
    (output / "README.md").write_text("card", encoding="utf-8")
    tiny = [
        f"output={output}", f"run_dir={tmp_path / 'run'}", "steps=2", "log_every=1", "eval_every=100",
        "samples=0", "probes=0", "threads=1", "shape.hidden=64", "shape.heads=1",
        "shape.layers=2", "shape.inner=64", "stages=[{until: 1.0, length: 512, rows: 1, recipe: {max_history: 1}}]",
    ]  # fmt: skip
    BaseTraining.prepare(load_config(BaseConfig, "base", tiny)).run()
    model = AutoModelForCausalLM.from_pretrained(output)
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert (output / "README.md").read_text(encoding="utf-8") == "card"
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["event"] for entry in entries] == ["start", "train", "train", "validate", "end"]

    resumed = BaseTraining.prepare(load_config(BaseConfig, "base", [*tiny, "resume=true", "steps=3"]))
    assert resumed.progress.step == 2
    saved = dict(itertools.islice(model.named_parameters(), 3))
    for name, parameter in resumed.model.named_parameters():
        if name in saved:
            assert parameter.detach().equal(saved[name].detach())


def test_a_base_without_a_tokenizer_says_where_to_take_one_from(tmp_path: Path) -> None:
    from train_jobs.reference.base import BaseTraining

    config = load_config(BaseConfig, "base", [f"output={tmp_path / 'second'}", f"run_dir={tmp_path / 'run'}"])
    with pytest.raises(ConfigurationError, match="no tokenizer; set tokenizer=models/base"):
        BaseTraining.prepare(config)


@pytest.mark.training
def test_a_second_base_takes_the_tokenizer_of_the_first(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    from train_jobs.reference.base import BaseTraining

    output = tmp_path / "second"
    tiny = [
        f"output={output}", "tokenizer=models/base", f"run_dir={tmp_path / 'run'}", "shape.architecture=qwen3",
        "graft=false", "steps=1", "samples=0", "probes=0", "threads=1", "shape.hidden=64", "shape.heads=1",
        "shape.layers=2", "shape.inner=64", "stages=[{until: 1.0, length: 512, rows: 1, recipe: {max_history: 1}}]",
    ]  # fmt: skip
    BaseTraining.prepare(load_config(BaseConfig, "base", tiny)).run()
    assert AutoConfig.from_pretrained(output).model_type == "qwen3"
    turns = [
        {"role": "user", "content": "오늘 뭐 했어? 😀"},
        {"role": "assistant", "content": "연습했지, Haneul이니까!"},
    ]
    first, second = (AutoTokenizer.from_pretrained(path) for path in (PROJECT_ROOT / "models/base", output))
    asked = {"return_dict": True, "return_assistant_tokens_mask": True}
    assert dict(second.apply_chat_template(turns, **asked)) == dict(first.apply_chat_template(turns, **asked))


def test_the_copying_circuit_is_refused_where_it_cannot_work() -> None:
    with pytest.raises(ConfigurationError, match="set graft=false"):
        load_config(BaseConfig, "base", ["shape.architecture=qwen3"])


@pytest.mark.training
@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen3"])
def test_every_architecture_is_built_saved_and_read_back_alike(
    architecture: str, tokenizer: Any, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from train_jobs.reference.model import build_model, save_model

    shape = Shape(architecture=architecture, hidden=64, layers=2, heads=2, inner=64)
    model = build_model(shape, tokenizer, seed=1)
    save_model(model, tokenizer, tmp_path / "base", ())
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.bfloat16, attn_implementation="eager")
    assert read.config.model_type == architecture
    ids = torch.randint(5, 300, (2, 12))
    mask = torch.zeros(2, 1, 12, 12).masked_fill(~torch.ones(12, 12, dtype=torch.bool).tril(), float("-inf"))
    expected = model(input_ids=ids, attention_mask=mask.bfloat16()).logits
    assert torch.allclose(read(input_ids=ids).logits, expected, atol=0.05)
