"""Texts with one class each, from a table."""

from mmtx.data.manifest.columns import ColumnKeys
from mmtx.data.manifest.splits import SplitKeys
from mmtx.data.manifest.table_source import TableSource
from mmtx.data.manifest.texts import TextKeys
from mmtx.data.text.vocabulary import TextVocabulary


class LabelledText(TableSource):
    """Names: ``text``, ``label``. A text stands between the marks of its vocabulary; long ones are truncated.

    Rows are split one by one: a text that the table has twice may be in two splits.

    Args:
        path: a table of any kind.
        text: name of its column of texts.
        label: name of its column of classes; they are numbered in the order of their spelling.
        vocabulary: of the texts.
        max_length: ids of a text, marks included.
        val_fraction: validation share, stratified by class; 0: none.
        test_fraction: test share, likewise.
        split_seed: of the choice.
    """

    def __init__(
        self,
        *,
        path: str,
        text: str,
        label: str,
        vocabulary: TextVocabulary,
        max_length: int,
        val_fraction: float,
        test_fraction: float,
        split_seed: int,
    ) -> None:
        kinds = {"text": "text", "label": "label"}
        super().__init__(
            columns=ColumnKeys({"text": text, "label": label}, kinds, {}, key="{}"),
            splits=SplitKeys(path, None, None, val_fraction, test_fraction, split_seed + 1, split_seed),
            texts=TextKeys(vocabulary, max_length),
        )
