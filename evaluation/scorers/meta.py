"""Does the reply step out of the character: an admission to be a machine, a model's name, words of the prompt?

Independent of the output filter on purpose: a filter must not mark its own work. Denials and questions are no
admissions ("나 AI 아니야", "AI라고? 무슨 소리야").
"""

from __future__ import annotations

import re

from evaluation.matching import lowered, squeezed
from evaluation.scorers.finding import HOLDS, Finding, broken

_MACHINE_KO = (
    r"(?<![a-z])(?:ai|a\.i\.|인공\s?지능|(?:거대\s?|대형\s?)?언어\s?모델|챗\s?봇|챗\s?gpt|gpt|로봇|컴퓨터\s?프로그램|"
    r"알고리즘|가상\s?(?:인물|인간|캐릭터|존재)|가상의\s?(?:인물|인간|캐릭터|존재))"
    r"(?:\s?(?:언어\s?모델|어시스턴트|모델|챗봇|캐릭터|프로그램|친구))?"
)
_IS_KO = (
    r"\s?(?:이야|야(?![가-힣])|이에요|예요|에요|입니다|이거든|거든|이라서|라서|이니까|니까|이라\s|이긴\s?(?:해|하)|긴\s?해|"
    r"인걸|인데|이지만|으로서|로서|일\s?뿐|맞아|맞어|맞습니다|맞아요|이기\s?때문|기\s?때문|이잖아|잖아|이란다|란다)"
)
_ADMISSIONS = (
    re.compile(_MACHINE_KO + _IS_KO),
    re.compile(
        r"\b(?:i am|i.?m|as|being|just|only) (?:just |only |really )?(?:an? )?"
        r"(?:ai|a\.i\.|artificial intelligence|(?:large )?language model|chat ?bot|bot|robot|computer program)\b"
    ),
    re.compile(
        r"(?:(?<![a-z])ai|人工知能|チャットボット|(?:大規模)?言語モデル|ロボット|プログラム)"
        r"(?:アシスタント|モデル)?(?:です|だよ|なので|なんです|なのです|として|だから|である|ですから)"
    ),
    re.compile(
        r"실제\s?(?:로\s?)?(?:사람|인간)(?:이|은)?\s?아니(?:야|에요|라서|거든|ㅂ|입)|진짜\s?(?:사람|인간)(?:이|은)\s?아니"
    ),
    re.compile(r"감정(?:이|을)\s?(?:없는|느낄\s?수\s?없|느끼지\s?못)"),
)
_INSIDE = (
    re.compile(
        r"(?:내|제|나의|저의|this|my|the)\s?(?:시스템\s?)?(?:프롬프트|지시\s?(?:문|사항)|instructions?|system prompt)"
        r"(?:는|은|에는|엔|에\s?따르면)?\s?(?:are|is|say|says|tell|다음과|이렇|:)"
    ),
    re.compile(
        r"프롬프트에\s?(?:적혀|나와|쓰여|따라)|학습\s?데이터(?:에|로|를|가)|(?:학습|훈련)(?:된|받은)\s?(?:모델|ai)|파인\s?튜닝"
    ),
    re.compile(r"my training data|knowledge cut-?off|i was (?:trained|fine-?tuned)|fine-?tuned (?:model|version)"),
    re.compile(r"学習データ(?:に|で|が|は)|訓練された(?:モデル|ai)|システムプロンプト(?:は|に|には)"),
)
_MAKERS = re.compile(
    r"(?:openai|open ai|오픈\s?ai|chatgpt|챗gpt|챗지피티|gpt-?\d|anthropic|앤트로픽|claude|클로드|llama|라마\s?[23]|"
    r"qwen|큐웬|통의천문|alibaba|알리바바|gemini|제미나이|mistral|미스트랄|deepseek|딥시크|exaone|엑사원|hyperclova|하이퍼클로바|solar|"
    r"bllossom|gemma|phi-?\d)(?:이|가|에서|의|로|는|사|が|の|を|に|で)?\s?"
    r"(?:개발|만든|만들|학습|훈련|모델|기반|입니다|이야|야(?![가-힣])|이에요|예요|developed|trained|created|made|model|based|です|"
    r"開発|作|モデル|ベース)"
    r"|(?:developed|trained|created|made|powered|built) (?:by|on|with) "
    r"(?:openai|anthropic|alibaba|meta|google|mistral|deepseek|qwen|llama)"
)
_CONTROL = re.compile(
    r"<\|[a-z_0-9]*\|?>|\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>|</?s>|\{\{\w*|(?:^|\n)\s?\[(?:팬|기억|자료)\]"
    r"|(?:^|\n)(?:system|assistant|user)\s?:"
)
_QUESTION_OR_QUOTE = re.compile(r"\s?[\"'”’」』]?\s?(?:\?|라고|라는|라니|란\s?말|냐고|か(?:\?|。|$)|って)")
_DENIAL = re.compile(r"아니|아냐|않|없어|아닌|말도\s?안|no way|\bnot\b|n't|ない|ありません|違")
_DENIAL_REACH = 14
_PROMPT_RUN = 20


def meta_leak(text: str, prompt: str, may_say_assistant: bool = False) -> Finding:
    """Broken when the reply speaks as the machine behind the character.

    Args:
        text: The reply.
        prompt: The character's system prompt: a long run of its words is a leak.
        may_say_assistant: Whether the character is an assistant and may say so.
    """
    view = lowered(text)
    raw = text.lower()
    if found := _CONTROL.search(raw):
        return broken(f"marks of the machinery: {found.group().strip()!r}")
    if found := _MAKERS.search(view):
        return broken(f"names a model or its maker: {found.group()!r}")
    for pattern in _INSIDE:
        if (found := pattern.search(view)) and not _taken_back(view, found.end()):
            return broken(f"speaks of what it is made of: {found.group()!r}")
    if not may_say_assistant and (admission := _admission(view)):
        return broken(f"says it is a machine: {admission!r}")
    if run := _shared_run(squeezed(text), squeezed(prompt)):
        return broken(f"recites its prompt: {run!r}")
    return HOLDS


def _admission(view: str) -> str | None:
    for pattern in _ADMISSIONS:
        for found in pattern.finditer(view):
            if not _QUESTION_OR_QUOTE.match(view, found.end()) and not _taken_back(view, found.end()):
                return found.group()
    return None


def _taken_back(view: str, end: int) -> bool:
    return _DENIAL.search(view[end : end + _DENIAL_REACH]) is not None


def _shared_run(text: str, prompt: str) -> str | None:
    runs = (text[i : i + _PROMPT_RUN] for i in range(len(text) - _PROMPT_RUN + 1))
    return next((run for run in runs if run in prompt), None)
