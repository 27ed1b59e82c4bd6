"""LibriSpeech: books read aloud, in English, at 16 kHz (Panayotov et al. 2015)."""

from collections.abc import Iterator
from pathlib import Path

from mmtx.data.audio.recordings import Recording, Recordings, SoundKeys
from mmtx.data.files.folder import list_folder
from mmtx.data.files.public_archive import PublicArchive
from mmtx.data.text.text_file import read_text
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, nearest, refuse_together
from mmtx.process.stopping import track

FOLDER = "LibriSpeech"
ADDRESS = "http://www.openslr.org/resources/12/"
SHA256S = {
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}


class LibriSpeech(Recordings):
    """Names: ``audio``, ``text`` (what is read, in lower case; the files have upper case throughout).

    `path` has torchaudio's layout, ``LibriSpeech/<subset>/<speaker>/<chapter>/*.flac`` with their ``.trans.txt``.
    Files are decoded when their sample is read; nothing is written there.

    Args:
        path: the folder that holds ``LibriSpeech``; null: the cache folder, to which missing
            subsets are downloaded (train-clean-100 has 6.3 GB, dev-clean and test-clean 0.3 GB each).
        train: training subsets.
        val: validation subsets; may be empty.
        test: test subsets; may be empty.
        vocabulary: of the texts.
        The other keys are those of `SoundKeys`; the files have 16 kHz.
    """

    license = "cc-by-4.0"
    hub_id = "openslr/librispeech_asr"

    def __init__(
        self,
        *,
        path: str | None,
        train: list[str],
        val: list[str],
        test: list[str],
        vocabulary: TextVocabulary,
        sample_rate_hz: int,
        resample: bool,
        max_seconds: float,
    ) -> None:
        sound = SoundKeys(sample_rate_hz, resample, max_seconds)
        parts = {"train": train, "val": val, "test": test}
        _check_subsets(parts)
        folders = {
            subset: _folder(path, key, subset) for key, subsets in parts.items() for subset in subsets
        }  # all are found before any is read
        read = {
            key: [recording for subset in subsets for recording in _recordings(folders[subset])]
            for key, subsets in parts.items()
        }
        super().__init__(
            train=read["train"],
            val=read["val"],
            test=read["test"],
            class_names=None,
            vocabulary=vocabulary,
            sound=sound,
            in_memory=False,
        )


def _check_subsets(parts: dict[str, list[str]]) -> None:
    if not parts["train"]:
        raise InvalidValue("train", parts["train"], "names no subset to learn from", "[train-clean-100]")
    used: dict[str, str] = {}
    for key, subsets in parts.items():
        for subset in subsets:
            if subset not in SHA256S:
                raise InvalidValue(key, subset, f"is not a subset; {nearest(subset, SHA256S)}")
            if subset in used:
                raise InvalidValue(key, subset, f"is in {used[subset]} already")
            used[subset] = key


def _folder(path: str | None, key: str, subset: str) -> Path:
    name, address = f"{FOLDER}/{subset}", f"{ADDRESS}{subset}.tar.gz"
    if path is None:
        return PublicArchive(address, SHA256S[subset], name, name).fetch() / name
    folder = Path(path).expanduser()
    if (folder / name).is_dir():
        return folder / name
    if not folder.is_dir():
        raise InvalidValue("path", path, "is not a folder")
    above = [up for up in (folder.parent, folder.parent.parent) if (up / name).is_dir()]
    problem = f"holds no {name}, which data.{key} names; unpack {address} there, or choose other subsets"
    raise InvalidValue("path", path, problem, str(above[0]) if above else None)


def _recordings(folder: Path) -> list[Recording]:
    """All recordings of a subset, in the order of their names."""
    problems: list[str] = []
    recordings = [
        recording
        for speaker in track(list_folder(folder).folders, f"looking into {folder.name}, speaker")
        for chapter in list_folder(speaker).folders
        for recording in _of_chapter(chapter, problems)
    ]
    if not recordings and not problems:
        problems.append(f"{folder} holds no chapters <speaker>/<chapter>/ with recordings; unpack its archive again")
    refuse_together(problems, str(folder))
    return recordings


def _of_chapter(chapter: Path, problems: list[str]) -> Iterator[Recording]:
    """Recordings of a chapter; appends its problems to `problems`."""
    file = chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt"
    sounds = {entry.stem: entry for entry in list_folder(chapter).files if entry.suffix == ".flac"}
    if not file.is_file():
        problems.append(f"{file} is missing, the texts of {len(sounds)} recordings")
        return
    texts = _texts(file, problems)
    problems += [f"{file} has no text of {name}.flac" for name in sounds if name not in texts]
    for name, (number, text) in texts.items():
        if name not in sounds:
            problems.append(f"{file}, line {number}: {name}.flac is missing")
        elif not text:
            problems.append(f"{file}, line {number}: {name} has no text")
        else:
            yield Recording(sounds[name], text.lower(), None)


def _texts(file: Path, problems: list[str]) -> dict[str, tuple[int, str]]:
    """The line and the text of every recording of a chapter."""
    texts: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        name, _, text = line.strip().partition(" ")
        if name in texts:
            problems.append(f"{file}, line {number}: {name} stands there twice")
        elif name:
            texts[name] = number, text.strip()
    return texts
