"""Speech from text by espeak-ng: formant synthesis, fast, on the CPU, in many voices.

espeak-ng is under the GPL, and so it is an optional dependency: ``pip install 'mmtx[speech]'``.
"""

import _ctypes
import ctypes
import locale
import os
import random
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy
import torch
from jaxtyping import Float
from torch import Tensor
from torchaudio.transforms import Resample

from mmtx.errors import InvalidValue, UserError, check_within, nearest

NATIVE_RATE_HZ = 22050
"""Sample rate of espeak-ng."""

PACKAGE = "espeakng-loader"
MISSING = f"speech is synthesised by espeak-ng, which is not installed (package {PACKAGE}): pip install 'mmtx[speech]'"

UNSEEN_ACCENT = "en-gb-scotland"
ACCENTS = (
    "en",  # British
    "en-us",
    "en-us-nyc",
    "en-029",  # Caribbean
    "en-gb-x-rp",
    "en-gb-x-gbclan",  # Lancaster
    "en-gb-x-gbcwmd",  # West Midlands
)
SPEAKERS = {
    "train": (
        *("m1", "m2", "m3", "m4", "m5", "m6", "Alex", "max", "pedro", "john", "robert", "Michael", "gustave", "Denis"),
        *("victor", "paul", "Gene", "pablo", "adam", "benjamin"),
        *("f1", "f3", "f4", "aunty", "Andrea", "Annie", "grandma"),
    ),
    "val": ("boris", "m8", "antonio", "quincy", "steph", "anika"),
    "test": ("m7", "Nguyen", "miguel", "Henrique", "iven3", "ed", "f2", "f5", "linda", "belinda"),
}
"""espeak-ng's voice variants that stand for speakers, by split. No variant is in two splits, and near copies of one
another (f2 and f5, linda and belinda) are in one. Excluded are whispers (whisper, whisperf, caleb), croaking and
robots (croak, klatt to klatt6, robosoft to robosoft8, UniRobot, anikaRobot, announcer, RicishayMax to 3, Demonic), and
those whose digits are hard to tell apart (Alicia, kaukovalta, zac, Lee, marcelo, ...)."""

_EXCLUSIVE = threading.Lock()
"""The library has one state for each process."""

if hasattr(os, "register_at_fork"):  # no fork during an utterance
    os.register_at_fork(
        before=_EXCLUSIVE.acquire, after_in_parent=_EXCLUSIVE.release, after_in_child=_EXCLUSIVE.release
    )


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A voice of espeak-ng.

    Args:
        name: espeak-ng's language, and a variant of it after a plus sign: ``en-us+f3``.
        pitch: of the voice's own range, 0..99; 50 is the default.
        pitch_range: how lively the intonation is, 0 (monotone) to 99; 50 is the default.
        words_per_minute: 80..450; 175 is usual.
    """

    name: str
    pitch: int
    pitch_range: int
    words_per_minute: int

    def __post_init__(self) -> None:
        for key, low, high in (("pitch", 0, 99), ("pitch_range", 0, 99), ("words_per_minute", 80, 450)):
            check_within(key, getattr(self, key), low, high)


def voice_names(split: str) -> list[str]:
    """English voices of a split (``train``, ``val``, ``test``), every accent with every speaker.

    Speakers of one split are in no other. One accent, `UNSEEN_ACCENT`, is spoken in the test only, by an eighth of its
    voices.
    """
    accents = (*ACCENTS, UNSEEN_ACCENT) if split == "test" else ACCENTS
    return [f"{accent}+{speaker}" for accent in accents for speaker in SPEAKERS[split]]


def random_voice(split: str, generator: random.Random) -> Voice:
    """A random English voice of a split, with random pitch, pitch range and rate (120..220 words/minute)."""
    return Voice(
        name=generator.choice(voice_names(split)),
        pitch=generator.randint(30, 70),
        pitch_range=generator.randint(30, 70),
        words_per_minute=generator.randint(120, 220),
    )


def synthesise(text: str, voice: Voice, sample_rate_hz: int = NATIVE_RATE_HZ) -> Float[Tensor, " samples"]:
    """A text said aloud: mono, in [-1, 1]. A pure function of its arguments (and of espeak-ng's version).

    Silence before and after takes a few hundredths of a second. A text without words gives silence.

    Raises:
        InvalidValue: there is no such voice.
        UserError: espeak-ng is not installed or cannot be loaded.
    """
    with _EXCLUSIVE:
        pcm = _speak(text, voice)
    waveform = torch.from_numpy(pcm.astype(numpy.float32) / 32768)
    return _resampler(sample_rate_hz)(waveform).clamp(-1, 1)  # a resampler of equal rates does nothing


def espeak_version() -> str:
    """Version of the package that contains espeak-ng, on which the sound depends.

    Raises:
        UserError: it is not installed.
    """
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        raise UserError(MISSING) from None


@lru_cache
def _resampler(sample_rate_hz: int) -> Resample:
    return Resample(NATIVE_RATE_HZ, sample_rate_hz)


# --- the library, by the numbers of its speak_lib.h -------------------------------------------------------------------

_OUTPUT_SYNCHRONOUS, _DONT_EXIT, _CHARS_UTF8, _POSITION_CHARACTER = 2, 0x8000, 1, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def _speak(text: str, voice: Voice) -> numpy.ndarray:
    """Samples at the native rate, int16."""
    library_path, data = _installed()
    _check_name(voice.name, data)
    blocks: list[bytes] = []

    def keep(samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            blocks.append(ctypes.string_at(samples, 2 * count))
        return 0

    keep_samples = _CALLBACK(keep)  # referenced until the utterance ends
    with _fresh_library(library_path, data) as espeak:
        espeak.espeak_ng_SetRandSeed(ctypes.c_long(0))  # of the noise in breath
        espeak.espeak_SetSynthCallback(keep_samples)
        if espeak.espeak_SetVoiceByName(voice.name.encode()):
            raise InvalidValue("name", voice.name, "is not a voice of espeak-ng")
        for parameter, value in ((_RATE, voice.words_per_minute), (_PITCH, voice.pitch), (_RANGE, voice.pitch_range)):
            espeak.espeak_SetParameter(parameter, value, 0)
        content = text.encode()
        length = ctypes.c_size_t(len(content) + 1)
        status = espeak.espeak_Synth(content, length, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None)
        if status:
            raise UserError(f"espeak-ng cannot say {text[:80]!r} (its error {status})")
    return numpy.frombuffer(b"".join(blocks), numpy.int16)


@contextmanager
def _fresh_library(path: str, data: Path) -> Iterator[ctypes.CDLL]:
    """espeak-ng, loaded and then unloaded for one utterance: the phases of its flutter and waves, its gain and more
    persist between utterances, and nothing else resets them. This takes a millisecond."""
    try:
        espeak = ctypes.CDLL(path)
    except OSError as error:
        raise UserError(f"espeak-ng cannot be loaded: {error}") from None
    place = locale.setlocale(locale.LC_CTYPE)
    try:
        if espeak.espeak_ng_GetSampleRate():  # 0 before its initialisation
            raise UserError(f"{path} is in use by something else in this process, and keeps state from there")
        rate = espeak.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, os.fsencode(data), _DONT_EXIT)
        if rate != NATIVE_RATE_HZ:
            raise UserError(f"espeak-ng cannot read its data in {data} (a path of 150 letters at most)")
        try:
            yield espeak
        finally:
            espeak.espeak_Terminate()
    finally:
        if locale.setlocale(locale.LC_CTYPE) != place:
            locale.setlocale(locale.LC_CTYPE, place)
        _unload(espeak)


def _unload(library: ctypes.CDLL) -> None:
    if sys.platform == "win32":
        _ctypes.FreeLibrary(library._handle)
    else:
        _ctypes.dlclose(library._handle)


def _installed() -> tuple[str, Path]:
    """Paths of the shared library and of its data."""
    try:
        import espeakng_loader
    except ImportError:
        raise UserError(MISSING) from None
    return espeakng_loader.get_library_path(), Path(espeakng_loader.get_data_path())


def _check_name(name: str, data: Path) -> None:
    """Raises InvalidValue for an unknown voice: espeak-ng itself ignores unknown variants."""
    language, _, variant = name.partition("+")
    languages, variants = _names(data)
    if language not in languages:
        raise InvalidValue("name", name, "names a language that espeak-ng lacks", nearest(language, languages))
    if variant not in variants and "+" in name:
        raise InvalidValue("name", name, "names a variant that espeak-ng lacks", nearest(variant, variants))


@lru_cache
def _names(data: Path) -> tuple[Sequence[str], Sequence[str]]:
    """Languages, and variants of any of them."""
    languages = sorted(file.name.lower() for file in (data / "lang").rglob("*") if file.is_file())
    return languages, sorted(file.name for file in (data / "voices" / "!v").iterdir())
