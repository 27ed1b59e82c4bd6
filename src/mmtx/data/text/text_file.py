"""UTF-8 text files, as windows of one stream of ids."""

import glob
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmtx.batch import Sample, Spec
from mmtx.data.base import ItemSource, Source
from mmtx.data.files.duplicates import first_copies
from mmtx.data.places import Places
from mmtx.data.specs import text_spec
from mmtx.data.text.fit_once import encode_once, fit_once, text_key
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError, check_at_least, some

KEPT_CHARS = 10_000_000
"""A longer text is encoded once, and its ids are kept."""


class TextStream(ItemSource):
    """Name: ``text``. In training, a window starts at every offset; in validation, windows follow each other, so that
    every id but the first is predicted exactly once. The test, if there is one, is the same held-out text in longer
    windows.

    Args:
        text: the whole text.
        vocabulary: fitted to the training part, with the characters of the whole.
        context: number of ids that a window predicts.
        val_fraction: share at the end of the text that is held out.
        where: the text's name in an error.
        test_context: number of ids that a window of the test predicts, more than `context`; None: no test.
    """

    def __init__(
        self,
        *,
        text: str,
        vocabulary: TextVocabulary,
        context: int,
        val_fraction: float,
        where: str,
        test_context: int | None = None,
    ) -> None:
        check_at_least("context", context, 1)
        if test_context is not None and test_context <= context:
            raise InvalidValue("test_context", test_context, f"must be more than context={context}", "null")
        if not 0 < val_fraction < 1:
            raise InvalidValue("val_fraction", val_fraction, "must lie between 0 and 1")
        cut = int(len(text) * (1 - val_fraction))
        parts = text[:cut], text[cut:]
        keys = [text_key(part) if len(text) > KEPT_CHARS else None for part in parts]

        def fit() -> None:
            vocabulary.fit([parts[0]], marks=False, held_out=[parts[1]])

        whole = [*keys[0], *keys[1]] if keys[0] and keys[1] else None
        self.fitted.vocabulary(
            "text",
            vocabulary,
            [parts[0]],
            marks=False,
            held_out=[parts[1]],
            fit=lambda: fit_once(vocabulary, whole, fit),
        )
        self.vocabulary = vocabulary
        self.contexts = {"train": context, "val": context, "test": test_context or context}
        train, val = (encode_once(vocabulary, *each) for each in zip(parts, keys, strict=True))
        for part, ids, least in (("training", train, context + 1), ("validation", val, 2)):
            if len(ids) < least:
                raise UserError(
                    f"{where} gives {len(ids)} ids for {part}; a window needs {least} (data.context={context}): "
                    f"give more text or a smaller data.context"
                )
        self._ids = {"train": train, "val": val, "test": val}
        self.items = {"train": range(len(train) - context), "val": range(0, len(val) - 1, context)}
        if test_context is not None:
            self.items["test"] = range(0, len(val) - 1, test_context)

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {"text": text_spec(self.vocabulary, max(self.contexts.values()) + 1)}

    def places(self) -> Places:
        return Source.places(self)  # windows of training overlap

    def sample(self, item: int, split: str) -> Sample:
        return {"text": {"ids": self._ids[split][item : item + self.contexts[split] + 1].long()}}


class TextFile(TextStream):
    """A file, several files, or a pattern (``data.path=books/*.txt``), joined in the given order.

    Of files with the same content only the first is read, as the others might be held out; a line on stderr names them.

    Args:
        path: file, pattern, or list of them.
        vocabulary: how text becomes ids.
        context: number of ids that a window predicts.
        val_fraction: share at the end of the text that is held out.
        test_context: number of ids that a window of the test predicts, more than `context`: the held-out text again;
            None: no test.
    """

    def __init__(
        self,
        *,
        path: str | Sequence[str],
        vocabulary: TextVocabulary,
        context: int,
        val_fraction: float,
        test_context: int | None = None,  # absent in stored configs of earlier versions
    ) -> None:
        paths = [path] if isinstance(path, str) else list(path)
        text = "".join(read_text(file) for file in _once([file for entry in paths for file in _files(entry)]))
        super().__init__(
            text=text,
            vocabulary=vocabulary,
            context=context,
            val_fraction=val_fraction,
            where=f"data.path={path}",
            test_context=test_context,
        )


def read_text(file: Path) -> str:
    """The text of a UTF-8 file, byte for byte (line ends as they are; a leading byte-order mark is dropped).

    Raises:
        UserError: it cannot be read, or is not UTF-8, with the offset of the first such byte; or so many bytes are 0
            that it is UTF-16.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    return decode_utf8(data, str(file))


def decode_utf8(data: bytes, where: str) -> str:
    """Decodes UTF-8 as `read_text` does; `where` is its name in an error."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where} is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}; convert it first"
        ) from None
    if data.count(0) * 4 > len(data):
        counts = f"{data.count(0)} of its {len(data)} bytes are 0, as in UTF-16"
        raise UserError(f"{where} is not UTF-8: {counts}; convert it first")
    return text


def _files(entry: str) -> list[Path]:
    pattern = Path(entry).expanduser()
    if pattern.is_file():
        return [pattern]
    found = sorted(Path(name) for name in glob.glob(str(pattern), recursive=True) if Path(name).is_file())
    if not found:
        raise InvalidValue("path", entry, "is neither a file nor a pattern that matches any")
    return found


def _once(files: Sequence[Path]) -> list[Path]:
    first = first_copies(files)
    kept = list(dict.fromkeys(first.values()))
    if len(kept) < len(files):
        copies = [str(file) for file, original in first.items() if file != original]
        names = f", as {some(copies)}" if copies else ""
        print(
            f"data=text_file leaves out {len(files) - len(kept)} files that it has read already{names}", file=sys.stderr
        )
    return kept
