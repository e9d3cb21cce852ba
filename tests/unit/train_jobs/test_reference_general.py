from train_jobs.reference.general import general_voices, speech_of


def test_speech_is_told_by_the_endings() -> None:
    assert speech_of(["알겠습니다.", "어디에 계십니까?"]) == "formal"
    assert speech_of(["좋아요!", "그렇죠."]) == "polite"
    assert speech_of(["그래", "고마워 ✨"]) == "casual"


def test_there_is_a_general_voice_for_each_speech_level() -> None:
    assert {voice.name for voice in general_voices()} == {"casual", "polite", "formal"}
