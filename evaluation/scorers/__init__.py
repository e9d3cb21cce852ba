"""Pure functions from a reply to a finding. Each says what is wrong in a word or two, or nothing.

A rule returns a :class:`Finding`; ``ok`` is ``None`` where the rule has nothing to judge (a speech level in a reply
without a sentence). ``note`` shows what struck.
"""

from evaluation.scorers.finding import Finding

__all__ = ["Finding"]
