"""Which configuration is the best. Pure, and can be worked out again from the table of the report.

1. **Seeds.** With several seeds, only configurations that finished as many of them as any other can win: a mean over
   the seeds that were left would be the better, the more bad ones were stopped.
2. **Gates.** A configuration is out when its share of sentences in the card's speech level, or its share of replies
   that break no rule, lies too far below the highest share of any: by more than the slack of the settings, and by
   more than ``gate_errors`` standard errors of a difference between two shares, ``sqrt(2 p (1 - p) / n)``. ``p`` is
   the share of all configurations together, ``n`` the smallest number that one of them was judged on.
3. **Loss.** Of those left the lowest mean loss leads (bits per character on the validation conversations, the mean
   over conversations and seeds). For every other one the table has how far it is behind, and the standard error of
   that difference: the same conversations are compared, so the differences are paired. With several seeds the
   error between seeds is added (the two in quadrature).
4. **Ties.** The margin is ``tie_errors`` times the root mean square of those standard errors, one number for all. Who
   is behind by no more than the margin is tied with the leader; among the tied the least memory wins, then the
   least training time, then the lower loss, then the order of the axis' values.

One margin for all makes the rule consistent: who is no worse than another in everything is never behind it.

Who is barred, such as for a rank that the server does not load, stands in the table and has no part in all of this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from core.errors import Unprocessable
from tune_sweeps.config import Rule


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many."""

    kept: int
    of: int

    @property
    def value(self) -> float:
        """0 where there was nothing to judge."""
        return self.kept / self.of if self.of else 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration with everything that was measured of it."""

    value: str
    order: int
    """Place among the axis' values."""

    losses: Mapping[int, tuple[float, ...]]
    """Bits per character of each validation conversation, by seed."""

    speech: Share
    """Sentences in the card's speech level, of those that have one."""

    persona: Share
    """Replies that break no rule."""

    memory_mib: float
    seconds: float
    barred: str = ""
    """Why it cannot win; empty: it can."""

    @property
    def loss(self) -> float:
        return fmean(fmean(rows) for rows in self.losses.values())


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a configuration came in."""

    candidate: Candidate
    passed: bool
    """Whether it passed the gates."""

    short: bool
    """Whether it finished fewer seeds than others, and therefore cannot win."""

    behind: float
    """Loss minus the leader's; negative is possible for one that did not pass."""

    error: float
    """Standard error of ``behind``."""

    tied: bool


@dataclass(frozen=True, slots=True)
class Decision:
    best: Candidate
    leader: Candidate
    """The lowest loss of those that passed the gates."""

    speech_gate: float
    persona_gate: float
    margin: float
    standings: tuple[Standing, ...]
    """In the order of the axis' values."""


def choose(candidates: Sequence[Candidate], rule: Rule) -> Decision:
    """Apply the rule.

    Raises:
        Unprocessable: There is no candidate that can win, or those there are were not measured on the same
            conversations.
    """
    ordered = sorted(candidates, key=lambda one: one.order)
    servable = [one for one in ordered if not one.barred]
    most_seeds = max((len(one.losses) for one in servable), default=0)
    rivals = [one for one in servable if len(one.losses) == most_seeds]
    if not rivals:
        raise Unprocessable("no configuration that can win has a finished trial: nothing can be chosen")
    if len({len(rows) for one in candidates for rows in one.losses.values()}) != 1:
        raise Unprocessable("the configurations were not measured on the same conversations")
    speech_gate = gate([one.speech for one in rivals], rule.speech_slack, rule.gate_errors)
    persona_gate = gate([one.persona for one in rivals], rule.persona_slack, rule.gate_errors)
    passed = [one for one in rivals if one.speech.value >= speech_gate and one.persona.value >= persona_gate]
    # No one may pass both gates; then each asks for what the other lacks, and loss alone decides.
    contenders = passed or rivals
    leader = min(contenders, key=lambda one: (one.loss, one.order))
    errors = {one.order: paired_error(one, leader) for one in ordered}
    others = [errors[one.order] for one in contenders if one is not leader]
    margin = rule.tie_errors * math.sqrt(fmean(error**2 for error in others)) if others else 0.0
    tied = [one for one in contenders if one.loss - leader.loss <= margin]
    best = min(tied, key=lambda one: (one.memory_mib, one.seconds, one.loss, one.order))
    standings = tuple(
        Standing(
            candidate=one,
            passed=one in passed,
            short=not one.barred and one not in rivals,
            behind=one.loss - leader.loss,
            error=errors[one.order],
            tied=one in tied,
        )
        for one in ordered
    )
    return Decision(best, leader, speech_gate, persona_gate, margin, standings)


def gate(shares: Sequence[Share], slack: float, errors: float) -> float:
    """The lowest share that passes; one number for all."""
    judged = [one.of for one in shares if one.of]
    if not judged:
        return 0.0
    together = sum(one.kept for one in shares) / sum(judged)
    error = math.sqrt(2 * together * (1 - together) / min(judged))
    return max(0.0, max(one.value for one in shares) - max(slack, errors * error))


def paired_error(one: Candidate, other: Candidate) -> float:
    """Standard error of the mean difference of two candidates' losses on the same conversations.

    Conversations and seeds are both samples: the errors of the mean over conversations and of that over seeds are
    added in quadrature. Seeds that only one of them finished are left out, unless they share none.
    """
    shared = sorted(one.losses.keys() & other.losses.keys())
    if shared:
        rows = [[a - b for a, b in zip(one.losses[s], other.losses[s], strict=True)] for s in shared]
    else:
        rows = [[a - b for a, b in zip(_by_row(one), _by_row(other), strict=True)]]
    by_row = [fmean(column) for column in zip(*rows, strict=True)]
    by_seed = [fmean(row) for row in rows]
    return math.sqrt(sum(variance(values) / len(values) for values in (by_row, by_seed) if len(values) > 1))


def _by_row(one: Candidate) -> list[float]:
    """The mean over seeds for each conversation."""
    return [fmean(column) for column in zip(*one.losses.values(), strict=True)]
