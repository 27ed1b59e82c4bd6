"""Free Spoken Digit Dataset: English digits, said many times by a few speakers, at 8 kHz (Jackson et al. 2018)."""

import re
from dataclasses import dataclass
from pathlib import Path

from mmtx.data.audio.recordings import Recording, Recordings, SoundKeys
from mmtx.data.files.duplicates import first_copies_of_splits
from mmtx.data.files.folder import list_folder, report_skipped
from mmtx.data.image.digits import NAMES
from mmtx.data.stratified_split import hold_out_files
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError, check_fraction, nearest, some

ADDRESS = "https://github.com/Jakobovski/free-spoken-digit-dataset"
PATTERN = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[^_]+)_(?P<index>0|[1-9][0-9]*)\.wav")
NUM_TEST = 5
"""The number of test recordings of every digit of every speaker, the first ones."""


class FSDD(Recordings):
    """Names: ``audio``, ``text`` (the digit's English name), ``label`` (the digit), ``speaker``, for slices.

    `path` holds files ``{digit}_{speaker}_{index}.wav``, none of which may be both in training and test; other files
    are skipped, and a line on stderr names them; other WAV files are an error. With the official split, indices 0 to 4
    are for the test and the others for training, so that all speakers are in both. With `test_speakers`, all recordings
    of these are for the test, and those of the others for training. Recordings are decoded at the start and kept in
    memory (15 MB per 1,000).

    Args:
        path: the folder.
        vocabulary: of the names.
        test_speakers: speakers of the test; null: the official split.
        val_fraction: validation share of the training part, stratified by digit; 0: none.
        split_seed: of the choice.
        The other keys are those of `SoundKeys`; the files have 8 kHz.
    """

    license = "cc-by-sa-4.0"

    def __init__(
        self,
        *,
        path: str,
        vocabulary: TextVocabulary,
        sample_rate_hz: int,
        resample: bool,
        max_seconds: float,
        trim_db: float | None,
        test_speakers: list[str] | None,
        val_fraction: float,
        split_seed: int,
    ) -> None:
        sound = SoundKeys(sample_rate_hz, resample, max_seconds, trim_db)
        check_fraction("val_fraction", val_fraction)
        folder = Path(path).expanduser()
        spoken = _listed(folder)
        train_part, test = _official(folder, spoken) if test_speakers is None else _by_speaker(spoken, test_speakers)
        missing = [NAMES[digit] for digit in range(10) if digit not in {one.digit for one in train_part}]
        if missing:
            raise UserError(
                f"{folder} has no recordings of {', '.join(missing)} to train on, of {len(train_part)}; all ten digits "
                f"are needed (data.path): {ADDRESS} has them"
            )
        first = first_copies_of_splits([[one.file for one in part] for part in (train_part, test)], str(folder))
        recordings = [one.recording for one in train_part]
        total = len({first[one.file] for one in train_part})
        train, val = hold_out_files(recordings, first, "val_fraction", val_fraction, total, split_seed)
        super().__init__(
            train=train,
            val=val,
            test=[one.recording for one in test],
            class_names=NAMES,
            vocabulary=vocabulary,
            sound=sound,
            in_memory=True,
            speakers=self.fitted.classes("speaker", sorted({one.speaker for one in spoken}), closed=False),
        )


@dataclass(frozen=True)
class _Spoken:
    file: Path
    digit: int
    speaker: str
    index: int

    @property
    def recording(self) -> Recording:
        return Recording(self.file, NAMES[self.digit], self.digit, self.speaker)


def _listed(folder: Path) -> list[_Spoken]:
    if not folder.is_dir():
        raise InvalidValue("path", folder, "is not a folder")
    files = _wavs(folder)
    if not files:
        inside = folder / "recordings"  # of the repository
        raise InvalidValue(
            "path",
            folder,
            f"holds no files {{digit}}_{{speaker}}_{{index}}.wav; {ADDRESS} has them",
            str(inside) if inside.is_dir() and _wavs(inside) else None,
        )
    matches = {file: PATTERN.fullmatch(file.name) for file in files}
    strays = [file.name for file, match in matches.items() if match is None]
    if strays:
        raise UserError(
            f"{folder} holds {some(strays)}, where WAV files are called {{digit}}_{{speaker}}_{{index}}.wav, as "
            f"7_theo_12.wav; rename them, or take them out of data.path"
        )
    report_skipped(folder, [file for file in list_folder(folder).files if file not in files], "WAV file")
    return [_Spoken(file, int(m["digit"]), m["speaker"], int(m["index"])) for file, m in matches.items() if m]


def _wavs(folder: Path) -> list[Path]:
    return [file for file in list_folder(folder).files if file.suffix.lower() == ".wav"]


def _official(folder: Path, spoken: list[_Spoken]) -> tuple[list[_Spoken], list[_Spoken]]:
    train_part, test = [s for s in spoken if s.index >= NUM_TEST], [s for s in spoken if s.index < NUM_TEST]
    for part, found, indices in (("test", test, "0 to 4"), ("training", train_part, "5 and above")):
        if not found:
            raise UserError(
                f"{folder} has {len(spoken)} recordings, none of index {indices}, which the official split takes for "
                f"the {part}; add them, or leave out a speaker (data.test_speakers)"
            )
    return train_part, test


def _by_speaker(spoken: list[_Spoken], test_speakers: list[str]) -> tuple[list[_Spoken], list[_Spoken]]:
    speakers = {s.speaker for s in spoken}
    if not test_speakers:
        raise InvalidValue("test_speakers", test_speakers, "names nobody", "null, which is the official split")
    for speaker in test_speakers:
        if speaker not in speakers:
            raise InvalidValue("test_speakers", speaker, f"is not a speaker; {nearest(speaker, speakers)}")
    if speakers == set(test_speakers):
        raise InvalidValue("test_speakers", test_speakers, "leaves no speaker to train on")
    return [s for s in spoken if s.speaker not in test_speakers], [s for s in spoken if s.speaker in test_speakers]
