"""The ids that a text of Whisper begins with: language, task, no timestamps; and those that are never written."""

from typing import Any

from mmtx.errors import UserError
from mmtx.interop.family import Config, Files

ENGLISH, MANY, V3 = 51864, 51865, 51866
"""Sizes of Whisper's vocabularies."""
USUAL = {ENGLISH: (50362,), MANY: (50259, 50359, 50363), V3: (50259, 50360, 50364)}
"""Ids after the first by the size of the vocabulary: English and transcription where there are others, no times."""


def default_marks(size: int) -> tuple[int, int]:
    """Ids that begin and end a text: those of Whisper's vocabularies; for other sizes, the last two."""
    if size == ENGLISH:
        return 50257, 50256
    return (50258, 50257) if size in (MANY, V3) else (size - 2, size - 1)


def decoder_prompt(config: Config, files: Files) -> list[int]:
    """Ids after the first: language and task of a multilingual model, and that for no timestamps.

    Taken from its files, by default English and transcription.

    Raises:
        UserError: the files name an unknown language or task, or have forced ids with gaps.
    """
    language, task = config.get("language"), config.get("task")
    forced = config.get("forced_decoder_ids") or []
    size = config["vocab_size"]
    several = config.get("is_multilingual", size >= MANY)
    default = _usual_prompt(config, files, several)
    usual = USUAL.get(size, (None,))[-1]
    no_times = config.get("no_timestamps_token_id", files.token("<|notimestamps|>", default=usual))
    if language is not None or task is not None:
        prompt = [_language(config, files, language or "en"), _task(config, files, task or "transcribe")]
    elif forced:
        prompt = _forced(forced, default)
    else:
        return default
    return prompt if no_times is None or no_times in prompt else [*prompt, no_times]


def _forced(pairs: Any, default: list[int]) -> list[int]:
    """Ids by their positions, from 1 on; null is the default."""
    by_position = dict(pairs)
    if sorted(by_position) != list(range(1, len(by_position) + 1)):
        raise UserError(f"forced_decoder_ids={pairs}: the places must be 1, 2, ... after the first id")
    usual = dict(enumerate(default, start=1))
    ids = {i: usual.get(i) if given is None else given for i, given in sorted(by_position.items())}
    if None in ids.values():
        raise UserError(f"forced_decoder_ids={pairs} has null where mmtx has no default")
    return [i for i in ids.values() if i is not None]


def _language(config: Config, files: Files, language: str) -> int:
    token = f"<|{language.lower().strip('<|>')}|>"
    found = (config.get("lang_to_id") or {}).get(token, files.token(token))
    if found is None:
        raise UserError(
            f"language={language}: this Whisper has no token {token}; give a code: generation_config.language=fr"
        )
    return found


def _task(config: Config, files: Files, task: str) -> int:
    found = (config.get("task_to_id") or {}).get(task, files.token(f"<|{task}|>"))
    if found is None:
        raise UserError(f"task={task}: this Whisper has no token <|{task}|>")
    return found


def _usual_prompt(config: Config, files: Files, several: bool) -> list[int]:
    size, languages, tasks = config["vocab_size"], config.get("lang_to_id") or {}, config.get("task_to_id") or {}
    no_times = config.get("no_timestamps_token_id", files.token("<|notimestamps|>"))
    if files.tokenizer is not None or no_times is not None:
        chosen = [
            languages.get("<|en|>", files.token("<|en|>")),
            tasks.get("transcribe", files.token("<|transcribe|>")),
        ]
        return [i for i in [*(chosen if several else []), no_times] if i is not None]
    return [*USUAL.get(size, ())]


def suppressed_ids(config: Config, key: str) -> list[int]:
    ids = config.get(key) or []
    if any(i < 0 for i in ids):
        raise UserError(f"{key}={ids}: ids are 0 or above")
    return [i for i in ids if i < config["vocab_size"]]
