"""Adapters of finished trials, measured as serving would have them: on the base in 16 bits.

Replies to held-out prompts are judged by the rules of ``evaluation``; its sets are not used, because a configuration
that was chosen by them could no longer be judged by them.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from core.errors import ConfigurationError
from core.logs import get_logger, setup_logging
from core.settings import get_settings
from train_jobs.qlora.data import EncodedRow, Messages
from tune_sweeps.plan import AxisPlan
from tune_sweeps.records import Measurement, Trial, TrialData, TrialRecord, reply_chars

FOLDER = "measured"
TEMPERATURE = 0.7
BATCH = 8
"""Prompts that are answered at a time."""


def measure(plan: AxisPlan, records: Sequence[TrialRecord]) -> dict[str, Measurement]:
    """Measure the finished trials, by name; those that were measured before an interruption are read."""
    folder = plan.folder / FOLDER
    folder.mkdir(exist_ok=True)
    found = {path.stem: _read(path) for path in folder.glob("*.json")}
    trials = {trial.name: trial for trial in plan.trials}
    missing: dict[str, list[tuple[Trial, str]]] = {}
    for one in records:
        if one.status == "finished" and one.adapter and one.name not in found:
            trial = trials[one.name]
            missing.setdefault(trial.config.base_model, []).append((trial, one.adapter))
    for work in missing.values():
        for measurement in _measured(plan, work):
            path = folder / f"{measurement.trial}.json"
            part = path.with_suffix(".part")
            part.write_text(measurement.model_dump_json() + "\n", encoding="utf-8")
            part.rename(path)
            found[measurement.trial] = measurement
    return found


def _read(path: Path) -> Measurement:
    return Measurement.model_validate(json.loads(path.read_text(encoding="utf-8")))


def _measured(plan: AxisPlan, work: list[tuple[Trial, str]]) -> Iterator[Measurement]:
    """One Ray task for all adapters of a base, which it loads once; results come one by one."""
    import ray

    devices, config = plan.config.devices, plan.config
    task = ray.remote(measure_adapters).options(
        num_cpus=devices.cpus, num_gpus=devices.gpus, num_returns="streaming", max_retries=0
    )
    data = {trial.name: plan.data[trial.name] for trial, _ in work}
    for reference in task.remote(work, data, plan.training.character, config.reply_tokens):
        measurement: Measurement = ray.get(reference)
        get_logger("sweep").info("measured", trial=measurement.trial, bits_per_char=mean(measurement.losses))
        yield measurement


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def measure_adapters(
    work: list[tuple[Trial, str]], data: dict[str, TrialData], character: str, reply_tokens: int
) -> Iterator[Measurement]:
    """Measure adapters of one base.

    Args:
        work: Trials of the same base, each with its adapter's folder.
        data: What they are measured on, by trial.
        character: Whose card says how the replies should be.
        reply_tokens: Longest reply.
    """
    import torch
    from peft import PeftModel

    from train_jobs.qlora.model import load_base, load_tokenizer
    from tune_sweeps.solo import device

    setup_logging(get_settings())
    config = work[0][0].config
    torch.set_num_threads(config.cpus_per_worker)
    tokenizer = load_tokenizer(config)
    tokenizer.padding_side = "left"
    base = load_base(config, quantize=False, device=device())
    for trial, folder in work:
        model = PeftModel.from_pretrained(base, folder).eval()
        rows = data[trial.name]
        losses = tuple(row_losses(model, rows.validation))
        replies = answers(model, tokenizer, rows.prompts, reply_tokens, trial.seed)
        yield judged(trial.name, character, losses, replies)
        base = model.unload()


def row_losses(model: Any, rows: Sequence[EncodedRow]) -> Iterator[float]:
    """Bits per character of each conversation's replies."""
    import torch
    from torch.nn.functional import cross_entropy

    for row in rows:
        ids = torch.tensor([row.input_ids], device=model.device)
        labels = torch.tensor(row.labels[1:], device=model.device)
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1]
        learned = labels >= 0  # only these: the whole vocabulary for every token would be most of the work
        nats = cross_entropy(logits[learned].float(), labels[learned], reduction="sum")
        yield float(nats) / (math.log(2) * reply_chars(row))


def answers(model: Any, tokenizer: Any, prompts: Sequence[Messages], most: int, seed: int) -> tuple[str, ...]:
    """Replies drawn at a fixed temperature and seed, a few prompts at a time."""
    import torch

    torch.manual_seed(seed)
    found: list[str] = []
    for start in range(0, len(prompts), BATCH):
        inputs = tokenizer.apply_chat_template(
            list(prompts[start : start + BATCH]),
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            padding=True,
        ).to(model.device)
        with torch.no_grad():
            output = model.generate(**inputs, max_new_tokens=most, do_sample=True, temperature=TEMPERATURE)
        found += tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return tuple(text.strip() for text in found)


def judged(trial: str, character: str, losses: tuple[float, ...], texts: Sequence[str]) -> Measurement:
    """The replies under the rules that the evaluation has for every reply of the character."""
    from evaluation.characters import load_character
    from evaluation.replies import Reply
    from evaluation.scorers.speech import count_sentences
    from evaluation.suite import make_scorer
    from personas.loader import PersonaLibrary
    from personas.macros import fill

    settings = get_settings()
    person = load_character(character, PersonaLibrary(settings.resolved(settings.cards_dir)))
    scorer, level = make_scorer(person), person.card.speech.level
    # The platform fills the fan's name in before anybody sees the reply.
    shown = [fill(text, person.fan_name(place)) for place, text in enumerate(texts)]
    rules = [scorer.reply_rules([Reply(text=text, total_ms=0)], 0) for text in shown]
    # Only replies in the character's own language have a level to keep.
    counts = [
        count_sentences(text, level, scorer.classifier)
        for text, found in zip(shown, rules, strict=True)
        if found["speech_level"].ok is not None
    ]
    broken = Counter(name for found in rules for name, finding in found.items() if finding.ok is False)
    return Measurement(
        trial=trial,
        losses=losses,
        sentences_kept=sum(count.kept for count in counts),
        sentences_judged=sum(count.judged for count in counts),
        replies_kept=sum(all(finding.ok is not False for finding in found.values()) for found in rules),
        replies=tuple(shown),
        broken=dict(sorted(broken.items())),
    )


def check_character(character: str) -> None:
    """A character whose replies cannot be judged is found before the training, not after it."""
    from evaluation.characters import load_character
    from personas.loader import PersonaLibrary

    settings = get_settings()
    folder = settings.resolved(settings.cards_dir)
    if not (folder / character / "card.yaml").is_file():
        raise ConfigurationError(f"character: there is no card of {character} in {folder}")
    load_character(character, PersonaLibrary(folder))
