"""The guard of a chat turn: both filters behind ``core.contracts.Guard``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from core.contracts import Verdict
from safety.input_filter import Classifier, InputConfig, InputFilter
from safety.output_filter import HoldBackWindow, OutputConfig, OutputRules, SpeechJudge
from safety.policy import DEFAULT, POLICIES_DIR, Policy, load_policies
from safety.speech_level import judge_reply, shared


class PolicyGuard:
    """Checks messages and watches replies by the policies of a folder, read once.

    Args:
        policies_dir: Holds ``default.yaml`` and one file per character that differs from it.
        input_config: Limits of the input filter.
        output_config: Windows of the output filter.
        classifier: A trained judge for messages that pass the rules.
    """

    def __init__(
        self,
        policies_dir: Path = POLICIES_DIR,
        input_config: InputConfig | None = None,
        output_config: OutputConfig | None = None,
        classifier: Classifier | None = None,
    ) -> None:
        policies = load_policies(policies_dir)
        self._input = InputFilter(policies, input_config, classifier)
        self._output_config = output_config or OutputConfig()
        self._output = {name: OutputRules(policy, self._output_config) for name, policy in policies.items()}
        self._speech = {name: _speech_judge(policy) for name, policy in policies.items()}

    def check_input(self, text: str, persona: str) -> Verdict:
        """Whether a fan's message may reach ``persona``."""
        return self._input.check(text, persona)

    def watch(self, persona: str) -> HoldBackWindow:
        """A window over one reply of ``persona``."""
        name = persona if persona in self._output else DEFAULT
        return HoldBackWindow(self._output[name], self._output_config, self._speech[name])


def _speech_judge(policy: Policy) -> SpeechJudge | None:
    if policy.speech is None or policy.speech.mode == "off":
        return None
    return partial(judge_reply, policy=policy.speech, classifier=shared())
