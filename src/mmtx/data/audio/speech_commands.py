"""Speech Commands v0.02: 105,829 recordings of 35 English words, a second each, at 16 kHz (Warden 2018)."""

from pathlib import Path

from mmtx.data.audio.recordings import Recording, Recordings, SoundKeys
from mmtx.data.files.folder import list_folder, report_skipped
from mmtx.data.files.public_archive import PublicArchive
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError, refuse_together, some

FOLDER = "SpeechCommands/speech_commands_v0.02"
ADDRESS = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
SHA256 = "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
VAL_LIST, TEST_LIST = "validation_list.txt", "testing_list.txt"
SPEAKER_MARK = "_nohash_"
WORDS = (
    "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go", "happy",
    "house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila", "six", "stop",
    "three", "tree", "two", "up", "visual", "wow", "yes", "zero",
)  # fmt: skip


class SpeechCommands(Recordings):
    """Names: ``audio``, ``text`` (the word), ``label`` (the word as one of 35 classes).

    The official lists give the splits: 84,843, 9,981 and 11,005 recordings, of different speakers. `path` has
    torchaudio's layout, ``SpeechCommands/speech_commands_v0.02/<word>/*.wav``, or the words' folders themselves.
    Background noise is skipped. Files are decoded when their sample is read; nothing is written there.

    Args:
        path: the folder; null: downloads the archive (2.4 GB) to the cache folder.
        vocabulary: of the words.
        The other keys are those of `SoundKeys`; the files have 16 kHz.
    """

    license = "cc-by-4.0"
    hub_id = "google/speech_commands"

    def __init__(
        self, *, path: str | None, vocabulary: TextVocabulary, sample_rate_hz: int, resample: bool, max_seconds: float
    ) -> None:
        sound = SoundKeys(sample_rate_hz, resample, max_seconds)
        folder = _folder(path)
        files = _files(folder)
        held_out = [_listed(folder / name, files) for name in (VAL_LIST, TEST_LIST)]
        both = held_out[0] & held_out[1]
        if both:
            raise UserError(f"{folder}: {some(sorted(both))} stands in both {VAL_LIST} and {TEST_LIST}")
        rest = sorted(files.keys() - held_out[0] - held_out[1])
        if not rest:
            raise UserError(f"{folder} has no recordings to train on: the official lists hold out all {len(files)}")
        train, val, test = ([files[name] for name in sorted(names)] for names in (rest, *held_out))
        super().__init__(
            train=train, val=val, test=test, class_names=WORDS, vocabulary=vocabulary, sound=sound, in_memory=False
        )


def _folder(path: str | None) -> Path:
    if path is None:
        return PublicArchive(ADDRESS, SHA256, ".", FOLDER).fetch() / FOLDER
    folder = Path(path).expanduser()
    for candidate in (folder / FOLDER, folder):
        if (candidate / TEST_LIST).is_file():
            return candidate
    problem = f"holds neither {FOLDER}/{TEST_LIST} nor {TEST_LIST}" if folder.is_dir() else "is not a folder"
    above = str(folder.parent) if (folder.parent / FOLDER / TEST_LIST).is_file() else None
    raise InvalidValue("path", path, f"{problem}; {ADDRESS} has it", above)


def _files(folder: Path) -> dict[str, Recording]:
    """All recordings, by ``word/file.wav``."""
    words = [word for word in list_folder(folder).folders if not word.name.startswith("_")]
    strays = [word.name for word in words if word.name not in WORDS]
    if strays:
        raise UserError(f"{folder} holds {some(strays)}, not among the {len(WORDS)} words; take them out of data.path")
    inside = [file for word in words for file in list_folder(word).files]
    sounds = [file for file in inside if file.suffix == ".wav" and SPEAKER_MARK in file.name]
    report_skipped(folder, sorted({*inside} - {*sounds}), "recording <speaker>_nohash_<number>.wav")
    return {
        f"{file.parent.name}/{file.name}": Recording(file, file.parent.name, WORDS.index(file.parent.name))
        for file in sounds
    }


def _listed(file: Path, files: dict[str, Recording]) -> set[str]:
    """The recordings of an official list."""
    try:
        names = file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}; {ADDRESS} has it") from None
    hint = f"is not in {file.parent}; unpack the archive again ({ADDRESS})"
    lines = enumerate(names, start=1)
    refuse_together([f"{file}, line {i}: {name} {hint}" for i, name in lines if name not in files], str(file))
    return set(names)
