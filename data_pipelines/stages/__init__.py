"""What each row goes through. A stage is a pure function over one row (or, for the global ones, over all of them).

Row stages, in their order: personal_data (first, so that no report ever shows any), shape, language, meta_talk,
repetition, profanity, decontamination, leakage, speech, rendering. Global: duplicates, mixing, splitting.
None of them knows Ray.
"""
