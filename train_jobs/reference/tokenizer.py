"""The tokenizer: one token per character, learned merges for Latin words only, bytes for everything else.

A token per Hangul syllable is what lets a model this small spell well and copy names; the byte fallback
means that no text is lost, so decoding gives back exactly what was encoded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.contracts import USER_MACRO

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
TEMPLATE = Path(__file__).parent / "chat_template.jinja"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)

LATIN_WORD = r" ?[A-Za-z]+"
"""The only pieces inside which characters are merged; the space before a word belongs to it."""

EMOJI = "✨🌙☁️💙🍓"
PUNCTUATION = "…·~—–―‘’“”「」『』《》〈〉【】、。・ー〜！？（），：；％℃₩→←↑↓★☆♥♡♪※×÷±°"
HANZI = (
    "一二三四五六七八九十百千万円年月日時分秒週曜火水木金土本人大小中上下左右前後内外入出口手足目耳心"
    "力名山川田天気雨空花草石車電話学校生先文字正早休見聞読書言語話答問教室会社員工場事業部課長者何今"
    "朝昼夜午半毎回行来帰歩走立止開閉始終使作用思考知勉強試験新古高安低多少長短明暗強弱近遠同東西南北"
    "国家族父母兄弟姉妹友子女男自分私彼方的度員番号食飲飯店料理買売物品質問題合意味音楽歌色白黒赤青"
    "町村市区県都道駅病院薬図館映画写真紙服着持待取引受渡送届出席欠働勤務給与料金費用経済申請承認規則"
    "規定提供資料確認報告連絡相談管理設備点検安全保護情報機密設定変更更新登録印刷領収証書類期限以内最大"
    "最小制限可能不必要場所在宅休暇有結婚祝健康診断研修訓練組織担当者総務技術支援製造精密株式代表取締役"
    "韓国語日英版昨明来去毎朝晩春夏秋冬全部他特別重注意危険緊急対応方法手順説明案内利用参照記載"
)


class CharacterSet:
    """The characters that get a token of their own whatever the corpus holds."""

    @staticmethod
    def base() -> list[str]:
        ascii_and_space = [chr(code) for code in (*range(0x20, 0x7F), 0x0A, 0x09)]
        jamo = [chr(code) for code in range(0x3131, 0x3164)]
        kana = [chr(code) for code in (*range(0x3041, 0x3097), *range(0x30A1, 0x30FB))]
        common = [*CharacterSet.ks_x_1001(), *PUNCTUATION, *EMOJI, *HANZI]
        return list(dict.fromkeys([*ascii_and_space, *jamo, *kana, *common]))

    @staticmethod
    def ks_x_1001() -> list[str]:
        """The 2,350 everyday Hangul syllables, rows 16 to 40 of the standard."""
        rows = range(0xB0, 0xC9)
        return [bytes((row, cell)).decode("euc-kr") for row in rows for cell in range(0xA1, 0xFF)]

    @staticmethod
    def of_corpus(texts: Iterable[str], min_count: int) -> list[str]:
        """Further letters and symbols that ``texts`` use at least ``min_count`` times."""
        counts = Counter(char for text in texts for char in text)
        return sorted(char for char, count in counts.items() if count >= min_count and char.isprintable())


def build_tokenizer(
    texts: Iterable[str], latin_merges: int, template: str, min_count: int = 2
) -> PreTrainedTokenizerFast:
    """Build the tokenizer from the fixed character set, the corpus's characters and its Latin words."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from tokenizers import Regex as Pattern
    from transformers import PreTrainedTokenizerFast

    corpus = list(texts)
    characters = list(dict.fromkeys([*CharacterSet.base(), *CharacterSet.of_corpus(corpus, min_count)]))
    merges = _latin_merges(corpus, latin_merges)
    pieces = [*SPECIAL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256)), *characters]
    pieces += [left + right for left, right in merges]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True))
    raw.pre_tokenizer = pre_tokenizers.Split(Pattern(LATIN_WORD), "isolated")
    raw.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[TURN_START],
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
    # Not special: engines drop special tokens from replies, and the platform must see this one to fill it in.
    tokenizer.add_tokens([AddedToken(USER_MACRO, special=False, normalized=False)])
    tokenizer.chat_template = template
    return tokenizer


def _latin_merges(texts: list[str], count: int) -> list[tuple[str, str]]:
    """Merges learned from the Latin words alone, so that Hangul stays one token per syllable."""
    import json
    import re

    from tokenizers import Regex as Pattern
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    words = [word for text in texts for word in re.findall(LATIN_WORD, text)]
    alphabet = {char for word in words for char in word}
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Split(Pattern(LATIN_WORD), "isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + count, min_frequency=3, show_progress=False, initial_alphabet=sorted(alphabet)
    )
    learner.train_from_iterator(words, trainer)
    state: dict[str, Any] = json.loads(learner.to_str())
    return [(left, right) for left, right in state["model"]["merges"]]


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer folder written by ``build_tokenizer``."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(str(path))
    return tokenizer
