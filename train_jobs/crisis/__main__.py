"""Train the classifier that the input filter asks about fans in danger: ``python -m train_jobs.crisis``; seconds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from core.settings import PROJECT_ROOT, get_settings


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m train_jobs.crisis", description=__doc__)
    parser.add_argument("--out", type=Path, help="folder of the model (default: crisis under the models)")
    parser.add_argument("--strength", type=float, default=10.0, help="inverse of the L2 penalty")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    from data_pipelines.stages.decontaminate import evaluation_questions, index_questions
    from safety.crisis import Shape
    from safety.guard import PolicyGuard
    from train_jobs.crisis.training import RUN_CHARS, Limits, ordinary_talk, train, unmeasured, written_lines

    settings, guard, shape = get_settings(), PolicyGuard(), Shape()
    questions = index_questions(evaluation_questions(PROJECT_ROOT / "evaluation"), RUN_CHARS)
    lines = [*written_lines(), *ordinary_talk(lambda text: not guard.check_input(text, "default").allowed)]
    kept = unmeasured(lines, questions)
    trained = train(kept, Limits(), shape, options.strength, options.seed)
    out = options.out or settings.resolved(settings.models_dir) / "crisis"
    trained.classifier.save(out, shape)
    print(f"{len(kept)} lines, {len(lines) - len(kept)} left out because an evaluation asks them")
    print(f"thresholds {trained.classifier.thresholds}; caught of the lines that were not learned:")
    for (language, kind), (some, every) in sorted(trained.caught.items()):
        print(f"  {language} {kind:6}  {some:5} of {every:5}  {some / every:6.1%}")
    print(out)


if __name__ == "__main__":
    main()
