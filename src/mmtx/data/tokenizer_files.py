"""The files in which public models bring their tokenizers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmtx.errors import UserError


def find_tokenizer(place: str | Path) -> Any:
    """A tokenizer of the `tokenizers` library from a folder or file; None if a folder holds none.

    Raises:
        UserError: a file cannot be read.
    """
    path = Path(place).expanduser()
    folder = path if path.is_dir() else path.parent
    for name, read in READERS.items():
        file = path if path.is_file() and path.name == name else folder / name
        if file.is_file() and (path.is_dir() or path == file):
            try:
                return read(file)
            except UserError:
                raise
            except Exception as error:  # the library raises nothing narrower
                raise UserError(f"{file} cannot be read as a tokenizer: {error}") from None
    return None


def _whole(file: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(file))


def _byte_pairs(file: Path) -> Any:
    """``vocab.json`` and ``merges.txt``, as GPT-2 and Whisper have them; added tokens beside them."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    tokenizer = Tokenizer(BPE.from_file(str(file), str(file.with_name("merges.txt"))))
    return with_added(byte_level(tokenizer), _added(file.parent))


def byte_level(tokenizer: Any) -> Any:
    """Cuts as GPT-2 does, and writes bytes."""
    from tokenizers import decoders, pre_tokenizers

    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _word_pieces(file: Path) -> Any:
    """``vocab.txt``, as BERT has it; whether letters are lowered stands in ``tokenizer_config.json``."""
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import WordPiece

    said = _json(file.with_name("tokenizer_config.json"))
    tokenizer = Tokenizer(WordPiece.from_file(str(file), unk_token=_spelt(said.get("unk_token", "[UNK]"))))
    lower = bool(said.get("do_lower_case", True))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    marks = [mark for mark in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if tokenizer.token_to_id(mark) is not None]
    tokenizer.add_special_tokens(marks)
    return tokenizer


def _pieces(file: Path) -> Any:
    """A unigram model of SentencePiece, with T5's 100 sentinels behind its pieces."""
    try:
        from sentencepiece import sentencepiece_model_pb2
    except ImportError:
        raise UserError(f"{file} needs sentencepiece and protobuf: pip install sentencepiece protobuf") from None
    from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import Unigram

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(file.read_bytes())
    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    special = [piece.piece for piece in model.pieces if piece.type in (2, 3)]  # unknown, control
    sentinels = [f"<extra_id_{i}>" for i in reversed(range(100))] if file.name == "spiece.model" else []
    pieces += [(token, 0.0) for token in sentinels]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=model.trainer_spec.unk_id, byte_fallback=False))
    steps = [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")]
    if model.normalizer_spec.precompiled_charsmap:
        steps.insert(0, normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([*special, *sentinels])
    return tokenizer


READERS: dict[str, Callable[[Path], Any]] = {
    "tokenizer.json": _whole,
    "vocab.json": _byte_pairs,
    "vocab.txt": _word_pieces,
    "spiece.model": _pieces,
    "sentencepiece.bpe.model": _pieces,
}


def with_added(tokenizer: Any, added: dict[str, int]) -> Any:
    """The tokenizer with more tokens, at the ids that they have: what is between is filled up."""
    for token, number in sorted(added.items(), key=lambda pair: pair[1]):
        while tokenizer.token_to_id(token) is None and tokenizer.get_vocab_size() < number:
            tokenizer.add_tokens([f"<|unused_{tokenizer.get_vocab_size()}|>"])
        tokenizer.add_special_tokens([token])
    return tokenizer


def _added(folder: Path) -> dict[str, int]:
    added = dict(_json(folder / "added_tokens.json"))
    for number, entry in _json(folder / "tokenizer_config.json").get("added_tokens_decoder", {}).items():
        added[_spelt(entry)] = int(number)
    return added


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _spelt(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else str(token)
