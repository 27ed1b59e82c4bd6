"""Tokenizer files of public models."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from mmtx.data.files.supported_keys import Keys, every, harmless, only, refusals, refuse, used
from mmtx.data.text.character_tokenizer import DELIMITER, character_tokenizer
from mmtx.data.text.chat_template import ChatTemplates
from mmtx.data.text.picture_marks import AROUND, WHOLE
from mmtx.data.text.residues import residues
from mmtx.data.text.sentence_pieces import SentencePieces
from mmtx.errors import UserError

ROLES = "bos_token eos_token unk_token sep_token pad_token cls_token mask_token"
MARKS = "add_bos_token add_eos_token"
KEYS: Keys = {
    **every(ROLES, used("how the tokens of a role are spelt")),
    **every("added_tokens_decoder", used("more tokens, special or not, and what each takes of the spaces around it")),
    **every(
        "additional_special_tokens extra_special_tokens model_specific_special_tokens",
        harmless("text that spells a special token is encoded as text"),
    ),
    "tokenizer_class": used("must be one that reads this file as mmtx does"),
    "do_lower_case": used("`vocab.txt`: lower case"),
    "strip_accents": used("`vocab.txt`: accents are stripped; null: with lower case"),
    "tokenize_chinese_chars": used("`vocab.txt`: a Chinese character is a word"),
    "add_prefix_space": used("byte-level: a space is put before a text"),
    "extra_ids": used("`spiece.model`: number of sentinels, 100"),
    "unk_id": harmless("the vocabulary has it"),
    **every("do_basic_tokenize do_lower", only(True, note="`vocab.txt`: text is split into words before pieces")),
    "never_split": only([], note="`vocab.txt`: words that are not split"),
    "wordpieces_prefix": only("##", note="`vocab.txt`: pieces within a word"),
    "clean_text": only(True, note="`vocab.txt`: control characters are dropped"),
    "sp_model_kwargs": only({}, note="pieces that are drawn at random"),
    **every(
        MARKS, only(False, note="marks; here they are those of the data. Beside a `tokenizer.json`, that has them")
    ),
    "add_dummy_prefix_space": only(True, note="a space is put before a text"),
    "dropout": only(0, note="pieces that are drawn at random"),
    "errors": only("replace", note="bytes that are no UTF-8"),
    **every(
        "boi_token eoi_token image_token audio_token boa_token eoa_token video_token end_of_utterance_token",
        harmless("spellings of special tokens; a text that spells one is encoded as text"),
    ),
    "fake_image_token": only(AROUND, note="before and after a picture"),
    "global_image_token": only(WHOLE, note="before a picture as a whole"),
    "word_delimiter_token": used("characters: what stands for a space"),
    "replace_word_delimiter_char": only(" ", note="characters: what is written for it"),
    "target_lang": only(note="vocabularies of several languages"),
    **every("do_normalize return_attention_mask", harmless("of sound; `preprocessor_config.json` has them")),
    "spaces_between_special_tokens": harmless("special tokens are left out of what is written"),
    "vocab_size": harmless("the vocabulary has it"),
    "auto_map": only(note="code of its own, which mmtx does not run"),
    **every(
        "model_max_length max_len max_length stride truncation truncation_side truncation_strategy padding "
        "padding_side pad_to_multiple_of pad_token_type_id split_special_tokens model_input_names return_tensors "
        "is_split_into_words trim_offsets legacy",
        harmless("what a call takes and returns; mmtx cuts and pads by itself"),
    ),
    "clean_up_tokenization_spaces": harmless("spaces before punctuation; a text is written as its tokens have them"),
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": only(False, note="the same"),
    "chat_template": used(
        "what `mmtx generate RUN messages=` writes of a conversation; `chat_template.jinja` and `chat_template.json` "
        "go before"
    ),
    **every("response_template chat_control_tokens use_default_system_prompt", harmless("chats")),
    **every("language task predict_timestamps normalizer_file normalize", harmless("of calls of Whisper's tokenizer")),
    **every(
        "name_or_path special_tokens_map_file tokenizer_file full_tokenizer_file vocab_file merges_file spm_file "
        "processor_class feature_extractor_type use_fast from_slow backend is_local local_files_only device_map "
        "init_inputs tokenizer_type transformers_version _commit_hash",
        harmless("where it came from"),
    ),
}
"""Keys of ``tokenizer_config.json``."""
OF_RESIDUES, CANONICAL = "EsmTokenizer", "SiglipTokenizer"
CLASSES: Mapping[str, tuple[str, ...]] = {
    "vocab.json": ("GPT2Tokenizer", "WhisperTokenizer", "Wav2Vec2CTCTokenizer"),
    "vocab.txt": ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "RetriBertTokenizer", OF_RESIDUES),
    "spiece.model": ("T5Tokenizer", CANONICAL),
    "tokenizer.model": (),
}
"""Values of ``tokenizer_class`` by the file that is read; a ``tokenizer.json`` needs none."""


def find_tokenizer(place: str | Path) -> Any:
    """A tokenizer of the `tokenizers` library, or one of `SentencePieces`, from a folder or file; None if a folder
    holds none.

    Raises:
        UserError: a file cannot be read, or its config has keys that mmtx cannot follow.
    """
    path = Path(place).expanduser()
    if path.is_file() and path.suffix == ".model":
        return _read(path, _pieces)
    folder = path if path.is_dir() else path.parent
    for name, read in READERS.items():
        file = path if path.is_file() and path.name == name else folder / name
        if file.is_file() and (path.is_dir() or path == file):
            return _read(file, read)
    return None


def find_chat(place: str | Path) -> ChatTemplates | None:
    """The chat templates beside a tokenizer; None where there are none. Raises UserError for a file that cannot be
    read."""
    path = Path(place).expanduser()
    folder = path if path.is_dir() else path.parent
    try:
        return ChatTemplates.of(folder, _json(folder / "tokenizer_config.json"), spelt_tokens(folder))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"the chat template in {folder} cannot be read: {error}") from None


def spelt_tokens(folder: Path) -> dict[str, str]:
    """The spelling of the token of each role that the files of a tokenizer give."""
    both = {**_json(folder / "special_tokens_map.json"), **_json(folder / "tokenizer_config.json")}
    return {role: _spelt(both[role]) for role in ROLES.split() if both.get(role)}


def _read(file: Path, read: Callable[[Path, dict[str, Any]], Any]) -> Any:
    config = _json(file.with_name("tokenizer_config.json"))
    apart = MARKS.split() if file.name == "tokenizer.json" else ()
    read_keys = {key: value for key, value in config.items() if key not in apart}
    found = [*refusals(read_keys, KEYS, "tokenizer_config.json")]
    kind = _class(file, config)
    readers = CLASSES.get(file.name)
    if kind is not None and readers is not None and kind.removesuffix("Fast") not in readers:
        found.append(f"tokenizer_class={kind} reads {file.name} otherwise; save a tokenizer.json with it")
    refuse(found, str(file))
    try:
        return read(file, config)
    except UserError:
        raise
    except Exception as error:  # the libraries raise nothing narrower
        raise UserError(f"{file} cannot be read as a tokenizer: {error}") from None


def _class(file: Path, config: dict[str, Any]) -> str | None:
    """The class that files name, or the model beside them needs."""
    beside = _json(file.with_name("config.json"))
    usual = {"esm": OF_RESIDUES, "siglip": CANONICAL}.get(str(beside.get("model_type")))
    return config.get("tokenizer_class") or beside.get("tokenizer_class") or usual


def _tokenizer_json(file: Path, config: dict[str, Any]) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    added = _added(file.parent, config, specials={*spelt_tokens(file.parent).values()})
    if "added_tokens_decoder" not in config:  # added_tokens.json does not have which spaces a token strips
        added = {number: token for number, token in added.items() if tokenizer.token_to_id(token.content) != number}
    with_added(tokenizer, added)
    _override_options(tokenizer, config)
    return tokenizer


def _override_options(tokenizer: Any, config: dict[str, Any]) -> None:
    """Options of ``tokenizer_config.json`` override those of ``tokenizer.json``."""
    names = {"do_lower_case": "lowercase", "strip_accents": "strip_accents"}
    names["tokenize_chinese_chars"] = "handle_chinese_chars"
    if type(tokenizer.normalizer).__name__ == "BertNormalizer":
        for key in (key for key in names if key in config):
            setattr(tokenizer.normalizer, names[key], config[key])
    if type(tokenizer.pre_tokenizer).__name__ == "ByteLevel" and "add_prefix_space" in config:
        tokenizer.pre_tokenizer.add_prefix_space = bool(config["add_prefix_space"])


def _byte_pairs(file: Path, config: dict[str, Any]) -> Any:
    """``vocab.json`` and ``merges.txt``, as GPT-2 and Whisper have them; added tokens beside them."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    tokenizer = byte_level(Tokenizer(BPE.from_file(str(file), str(file.with_name("merges.txt")))))
    tokenizer.pre_tokenizer.add_prefix_space = bool(config.get("add_prefix_space", False))
    end = "<|endoftext|>"
    spelt = spelt_tokens(file.parent)
    roles = {**dict.fromkeys(("bos_token", "eos_token", "unk_token"), end), **spelt}
    tokenizer.add_special_tokens([token for token in roles.values() if tokenizer.token_to_id(token) is not None])
    return with_added(tokenizer, _added(file.parent, config, specials={*roles.values()}))


def _characters(file: Path, config: dict[str, Any]) -> Any:
    """``vocab.json`` alone, as models for CTC have it."""
    if config.get("do_lower_case"):
        raise UserError(f"{file}: do_lower_case=True writes lower case for upper; mmtx writes tokens as they are")
    vocabulary = _json(file)
    for number, token in _added(file.parent, config).items():
        vocabulary.setdefault(token.content, number)
    return character_tokenizer(vocabulary, spelt_tokens(file.parent), config.get("word_delimiter_token") or DELIMITER)


def _reader_of_vocab(file: Path) -> Callable[[Path, dict[str, Any]], Any]:
    return _byte_pairs if file.with_name("merges.txt").is_file() else _characters


def byte_level(tokenizer: Any) -> Any:
    """Splits text as GPT-2 does, and decodes to bytes."""
    from tokenizers import decoders, pre_tokenizers

    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _words(file: Path, config: dict[str, Any]) -> Any:
    """``vocab.txt``: residues as ESM has them, or pieces of words as BERT."""
    if _class(file, config) == OF_RESIDUES:
        return residues(file, spelt_tokens(file.parent))
    return _word_pieces(file, config)


def _word_pieces(file: Path, config: dict[str, Any]) -> Any:
    """``vocab.txt``, as BERT has it; ``tokenizer_config.json`` gives the normalisation."""
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece

    usual = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]"}
    roles = {**usual, "mask_token": "[MASK]", **spelt_tokens(file.parent)}
    tokenizer = Tokenizer(WordPiece.from_file(str(file), unk_token=roles["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=bool(config.get("do_lower_case", True)),
        strip_accents=config.get("strip_accents"),
        handle_chinese_chars=bool(config.get("tokenize_chinese_chars", True)),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([mark for mark in roles.values() if tokenizer.token_to_id(mark) is not None])
    last, first = (tokenizer.token_to_id(roles[role]) for role in ("sep_token", "cls_token"))
    if first is not None and last is not None:
        tokenizer.post_processor = processors.BertProcessing((roles["sep_token"], last), (roles["cls_token"], first))
    return with_added(tokenizer, _added(file.parent, config, specials={*roles.values()}))


def _pieces(file: Path, config: dict[str, Any]) -> SentencePieces:
    """A SentencePiece model of any kind; for T5, with sentinels after its pieces; for SigLIP, of canonical texts."""
    if file.name.endswith(".bpe.model"):
        raise UserError(f"{file}: its ids are shifted in the models that it comes with; save a tokenizer.json")
    canonical = _class(file, config) == CANONICAL
    if canonical and not config.get("do_lower_case", True):
        raise UserError(f"{file}: do_lower_case=False; SigLIP's texts are in lower case")
    count = config.get("extra_ids", 100) if file.name == "spiece.model" and not canonical else 0
    added = _added(file.parent, config)
    sentinels = [f"<extra_id_{i}>" for i in reversed(range(count))]
    pieces = SentencePieces(file.read_bytes(), sentinels, canonical=canonical)
    other = [token for number, token in added.items() if pieces.token_to_id(token.content) != number]
    if other:
        raise UserError(f"{file}: the added token {other[0].content!r} is no piece; save a tokenizer.json")
    return pieces


READERS: dict[str, Callable[[Path, dict[str, Any]], Any]] = {
    "tokenizer.json": _tokenizer_json,
    "vocab.json": lambda file, config: _reader_of_vocab(file)(file, config),
    "vocab.txt": _words,
    "spiece.model": _pieces,
    "tokenizer.model": _pieces,
    "sentencepiece.bpe.model": _pieces,
}


def with_added(tokenizer: Any, added: Mapping[int, Any]) -> Any:
    """Adds tokens to the tokenizer at their ids; gaps are filled with unused tokens.

    Raises:
        UserError: a token has another id already.
    """
    from tokenizers import AddedToken

    present = tokenizer.get_added_tokens_decoder()
    for number, token in sorted(added.items()):
        while tokenizer.token_to_id(token.content) is None and tokenizer.get_vocab_size() < number:
            filler = AddedToken(f"<|unused_{tokenizer.get_vocab_size()}|>", special=True)
            tokenizer.add_special_tokens([filler])
        if present.get(number) != token:
            (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
        if tokenizer.token_to_id(token.content) != number:
            own = tokenizer.token_to_id(token.content)
            raise UserError(f"the added token {token.content!r} should have id {number}, and has {own}")
    return tokenizer


def _added(folder: Path, config: dict[str, Any], specials: Collection[str] = ()) -> dict[int, Any]:
    """Tokens beyond the vocabulary, by id, from the config or else from ``added_tokens.json``."""
    from tokenizers import AddedToken

    if "added_tokens_decoder" in config:
        return {int(number): AddedToken(**_flags(entry)) for number, entry in config["added_tokens_decoder"].items()}
    entries = _json(folder / "added_tokens.json").items()
    return {
        int(number): AddedToken(token, normalized=token not in specials, special=token in specials)
        for token, number in entries
    }


def _flags(entry: Any) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "__type"}


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _spelt(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else str(token)
