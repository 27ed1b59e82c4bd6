"""A dataset of any kinds of columns, from any kind of table."""

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor

from mmtx.data.audio.recordings import SoundKeys
from mmtx.data.image.decode_image import Fit
from mmtx.data.image.native_fit import NativeFit
from mmtx.data.manifest.columns import ColumnKeys
from mmtx.data.manifest.files import PictureKeys
from mmtx.data.manifest.splits import SplitKeys
from mmtx.data.manifest.table_source import TableSource
from mmtx.data.manifest.texts import TextKeys
from mmtx.data.text.vocabulary import TextVocabulary


class Manifest(TableSource):
    """Names: those of `columns`, and of columns that the set or an objective reads by their own names.

    Args:
        path: of the table, a pattern, or several of them.
        columns: by name, the column, or several: a prompt and what continues it, entries of a vector, channels of a
            series, or classes of 0 and 1.
        kinds: by name, where neither the set nor the values tell it: picture, sound, video, text, continuation,
            messages, before_picture, label, labels, number, vector, series.
        tokenizers: by name of the set, the kind of column that its tokenizer reads; None: any, as the values are.
        objectives: by name that is predicted, likewise.
        optional: names that a row may lack.
        separator: between the classes of a text that holds several.
        split: column that holds train, val or test; a table without it is split by the fractions; null: all are.
        val_path: the validation table; null: `val_fraction` of the training rows.
        test_path: the test table; null: `test_fraction` of the training rows.
        val_fraction: validation share, stratified by class; 0: none.
        test_fraction: test share, likewise; not drawn where a column or a folder of `datasets` tells splits.
        split_seed: of the choice.
        standardise: numbers that the set reads have mean 0 and deviation 1 over the training rows.
        vocabulary: of texts; each name of texts has its own.
        max_length: ids of a text, marks included; longer ones lose their end. null: the longest.
        shuffle_mb: of a table, that are shuffled, and held in memory, at a time.
        turns: of conversations, that are predicted: those of the assistant, or all.
        The other keys are those of `PictureKeys` and `SoundKeys`.
    """

    reads_columns = True

    def __init__(
        self,
        *,
        path: str | Sequence[str],
        columns: dict[str, str | list[str]],
        kinds: dict[str, str],
        tokenizers: dict[str, str | None],
        objectives: dict[str, str | None],
        optional: Sequence[str],
        separator: str,
        split: str | None,
        val_path: str | Sequence[str] | None,
        test_path: str | Sequence[str] | None,
        val_fraction: float,
        test_fraction: float,
        split_seed: int,
        standardise: bool,
        vocabulary: TextVocabulary,
        max_length: int | None,
        size: int,
        channels: Literal[1, 3],
        fit: Fit | NativeFit,
        augment: Callable[[Tensor], Tensor] | None,
        max_pixels: int,
        sample_rate_hz: int,
        resample: bool,
        max_seconds: float,
        trim_db: float | None,
        shuffle_mb: int,
        turns: Literal["assistant", "all"] = "assistant",  # this and the next are absent in earlier stored configs
        max_frames: int = 16,
    ) -> None:
        super().__init__(
            columns=ColumnKeys(columns, kinds, {**objectives, **tokenizers}, optional, separator),
            splits=SplitKeys(
                path, val_path, test_path, val_fraction, test_fraction, split_seed + 1, split_seed, column=split
            ),
            texts=TextKeys(vocabulary, max_length, turns),
            pictures=PictureKeys(size, channels, fit, augment, max_pixels, max_frames),
            sounds=SoundKeys(sample_rate_hz, resample, max_seconds, trim_db),
            scaled=tokenizers if standardise else (),
            shuffle_mb=shuffle_mb,
        )
