"""One sound file: what is read, and what is refused."""

import os
import resource
import struct
import tracemalloc
from pathlib import Path

import numpy
import pytest
import soundfile
import torch
from small_data import write_sound

from mmtx.data.audio.sound_file import check_sound, read_sound, sound_header
from mmtx.errors import UserError


def read(file, rate=16_000, resample=False, max_seconds=2.0):
    return read_sound(file, sample_rate_hz=rate, resample=resample, max_seconds=max_seconds)


def check(file, rate=16_000, resample=False, max_seconds=2.0):
    return check_sound(file, sample_rate_hz=rate, resample=resample, max_seconds=max_seconds)


def sine(frames=8000, rate=16_000, amplitude=0.5):
    return (amplitude * numpy.sin(numpy.arange(frames) * 2 * numpy.pi * 440 / rate)).astype(numpy.float32)


def wav(samples=1600, riff=None, data=None, rate=16_000, before=b"", after=b"", magic=b"RIFF"):
    """The bytes of a WAV file of 16 bits, with sizes that may be wrong."""
    order = ">" if magic == b"RIFX" else "<"
    pcm = numpy.arange(samples).astype(f"{order}i2").tobytes()
    body = b"WAVEfmt " + struct.pack(f"{order}IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16) + before
    body += b"data" + struct.pack(f"{order}I", len(pcm) if data is None else data) + pcm + after
    return magic + struct.pack(f"{order}I", len(body) if riff is None else riff) + body


def written(folder, content, name="sound.wav"):
    (folder / name).write_bytes(content)
    return folder / name


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix, error", [("wav", 0), ("flac", 0), ("ogg", 0.1), ("mp3", 0.1), ("aiff", 0)])
def test_formats(tmp_path, suffix, error):
    wanted = (sine() * 32768).round() / 32768
    file = tmp_path / f"sound.{suffix}"
    soundfile.write(file, wanted, 16_000)
    waveform = read(file)
    assert waveform.dtype == torch.float32 and waveform.shape == (8000,)
    assert (waveform - torch.from_numpy(wanted)).abs().max() <= error
    assert sound_header(file).sample_rate_hz == 16_000


@pytest.mark.parametrize("subtype, error", [("PCM_U8", 2**-7), ("PCM_24", 2**-23), ("FLOAT", 0), ("ULAW", 0.05)])
def test_encodings_of_wav(tmp_path, subtype, error):
    soundfile.write(tmp_path / "sound.wav", sine(), 16_000, subtype=subtype)
    assert (read(tmp_path / "sound.wav") - torch.from_numpy(sine())).abs().max() <= error


@pytest.mark.parametrize("channels", [2, 5])
def test_channels_are_mixed_down_to_their_mean(tmp_path, channels):
    file = tmp_path / "sound.wav"
    samples = write_sound(file, 0.5, channels=channels)
    assert sound_header(file).channels == channels
    torch.testing.assert_close(read(file), torch.from_numpy(samples.mean(1)), atol=1e-6, rtol=0)


def test_a_long_file_is_read_whole(tmp_path):
    samples = write_sound(tmp_path / "sound.wav", 60.0)  # several blocks
    assert read(tmp_path / "sound.wav", max_seconds=60.0).equal(torch.from_numpy(samples))


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000])
def test_resampling_is_torchaudios(tmp_path, rate):
    from torchaudio.functional import resample

    samples = write_sound(tmp_path / "sound.wav", 0.5, rate=rate)
    waveform = read(tmp_path / "sound.wav", resample=True)
    assert waveform.equal(resample(torch.from_numpy(samples), rate, 16_000).clamp(-1, 1))
    assert len(waveform) == pytest.approx(8000, abs=2)


def test_what_has_the_wanted_rate_is_not_resampled(tmp_path):
    samples = write_sound(tmp_path / "sound.wav")
    assert read(tmp_path / "sound.wav", resample=True).equal(torch.from_numpy(samples))


def test_what_overshoots_a_little_is_clipped(tmp_path):
    soundfile.write(tmp_path / "sound.wav", sine(amplitude=1.5), 16_000, subtype="FLOAT")
    waveform = read(tmp_path / "sound.wav")
    assert waveform.max() == 1 and waveform.min() == -1
    assert waveform.equal(torch.from_numpy(sine(amplitude=1.5)).clamp(-1, 1))


UNKNOWN = 0xFFFFFFFF


@pytest.mark.parametrize(
    "riff, data",
    [
        *[(UNKNOWN, UNKNOWN), (0, 0), (36, 0), (None, UNKNOWN), (0, UNKNOWN), (UNKNOWN, 0)],
        *[(0x7FFFF024, 0x7FFFF000), (0x80000024, 0x80000000), (0x7FFFFFFF, 0x7FFFFFDB), (0xFFFFFFFF, 0xFFFFFFDB)],
    ],
)
@pytest.mark.parametrize("before", [b"", b"LIST\x05\0\0\0abcde\0"])
def test_a_stream_of_unknown_size_is_read_to_its_end(tmp_path, riff, data, before):
    """ffmpeg, recorders that were killed, SoX, arecord, and those that write the largest number there is."""
    file = written(tmp_path, wav(riff=riff, data=data, before=before))
    assert sound_header(file).frames == 1600
    assert read(file).equal(torch.arange(1600) / 32768)


def sound_in(folder, kind):
    soundfile.write(folder / f"plain.{kind}", sine(), 16_000, subtype="PCM_16" if kind != "ogg" else None)
    return (folder / f"plain.{kind}").read_bytes()


def test_other_formats_in_a_pipe(tmp_path):
    whole = torch.from_numpy(sine())
    aiff, au, at = sound_in(tmp_path, "aiff"), sound_in(tmp_path, "au"), sound_in(tmp_path, "aiff").index(b"SSND") + 4
    flac = sound_in(tmp_path, "flac")
    streams = [
        ("a.flac", flac[:21] + bytes([flac[21] & 0xF0, 0, 0, 0, 0]) + flac[26:]),
        ("a.aiff", aiff[:at] + struct.pack(">I", 0x7F000008) + aiff[at + 4 :]),
        ("a.au", au[:8] + struct.pack(">I", UNKNOWN) + au[12:]),
    ]
    for name, content in streams:
        assert (read(written(tmp_path, content, name)) - whole).abs().max() < 2**-15


@pytest.mark.parametrize("kind", ["wav", "flac", "aiff", "au", "caf", "w64", "nist", "ogg", "mp3"])
def test_tags_may_come_first(tmp_path, kind):
    """As taggers write them: sizes in four groups of seven bits, with a footer or without, one after the other."""
    content = sound_in(tmp_path, kind) if kind != "mp3" else mp3_of(tmp_path)
    plain = read(written(tmp_path, content, f"plain.{kind}"))
    short, long = b"ID3\x03\0\0" + bytes([0, 0, 0, 10]) + bytes(10), b"ID3\x04\0\0" + bytes([0, 0, 2, 44]) + bytes(300)
    footed = b"ID3\x04\0\x10" + bytes([0, 0, 0, 10]) + bytes(10) + b"3DI\x04\0\x10" + bytes([0, 0, 0, 10])
    for tags in (short, long, footed, short + long):
        assert read(written(tmp_path, tags + content, f"tagged.{kind}")).equal(plain)
    if kind == "mp3":
        for padding in (bytes(700), long + bytes(700)):
            assert read(written(tmp_path, padding + content, "padded.mp3")).equal(plain)
    if kind == "wav":
        stream = wav(riff=UNKNOWN, data=UNKNOWN)
        assert read(written(tmp_path, long + stream)).equal(torch.arange(1600) / 32768)
        with pytest.raises(UserError, match="cut short: its header declares 3200 bytes of samples, and 3198 are there"):
            read(written(tmp_path, long + wav()[:-2]))


def mp3_of(folder):
    soundfile.write(folder / "sound.mp3", sine(), 16_000, format="MP3")
    return (folder / "sound.mp3").read_bytes()


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3", "aiff"])
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.raw", "a.au", "a.gsm", "a"])
def test_a_sound_is_what_it_holds_whatever_it_is_called(tmp_path, kind, name):
    content = sound_in(tmp_path, kind) if kind != "mp3" else mp3_of(tmp_path)
    plain = read(written(tmp_path, content, f"plain.{kind}"))
    assert read(written(tmp_path, content, name)).equal(plain)


@pytest.mark.parametrize("magic", [b"RIFF", b"RIFX"])
@pytest.mark.parametrize("after", [b"", b"LIST\x04\0\0\0abcd", b"rubbish"])
def test_chunks_around_the_samples_are_no_samples(tmp_path, magic, after):
    file = written(tmp_path, wav(magic=magic, after=after))
    assert read(file).equal(torch.arange(1600) / 32768)


def test_wav_of_64_bits(tmp_path):
    soundfile.write(tmp_path / "sound.wav", sine(), 16_000, format="RF64", subtype="FLOAT")
    assert (tmp_path / "sound.wav").read_bytes()[:4] in (b"RF64", b"RIFF")
    assert read(tmp_path / "sound.wav").equal(torch.from_numpy(sine()))


def rf64(data_bytes, pcm):
    body = b"WAVEds64" + struct.pack("<IQQQI", 28, 0, data_bytes, 0, 0)
    body += b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    return b"RF64" + struct.pack("<I", UNKNOWN) + body + b"data" + struct.pack("<I", UNKNOWN) + pcm


def test_the_size_of_a_wav_of_64_bits_stands_elsewhere(tmp_path):
    assert read(written(tmp_path, rf64(3200, bytes(3200)))).shape == (1600,)
    with pytest.raises(UserError, match="cut short: its header declares 6400 bytes of samples, and 3200 are there"):
        read(written(tmp_path, rf64(6400, bytes(3200))))


def rf64_in_a_pipe(magic, size):
    return magic + rf64(size, numpy.arange(1600).astype("<i2").tobytes())[4:]


@pytest.mark.parametrize("magic", [b"RF64", b"BW64"])
@pytest.mark.parametrize("size", [3200, 0, 2**63 - 1, 2**64 - 1])
def test_a_wav_of_64_bits_in_a_pipe(tmp_path, magic, size):
    """BW64 is RF64 by another name, which libsndfile does not know."""
    assert read(written(tmp_path, rf64_in_a_pipe(magic, size))).equal(torch.arange(1600) / 32768)


@pytest.mark.parametrize("kind, size_bytes", [("W64", 16), ("CAF", 4)])
def test_sizes_of_64_bits_in_a_pipe(tmp_path, kind, size_bytes):
    soundfile.write(tmp_path / "plain", sine(), 16_000, format=kind, subtype="FLOAT")
    content = (tmp_path / "plain").read_bytes()
    at = content.index(b"data") + size_bytes
    stream = content[:at] + b"\xff" * 8 + content[at + 8 :]
    assert read(written(tmp_path, stream)).equal(torch.from_numpy(sine()))


def test_an_au_whose_size_was_never_written(tmp_path):
    au = sound_in(tmp_path, "au")
    assert read(written(tmp_path, au[:8] + bytes(4) + au[12:])).equal(read(tmp_path / "plain.au"))


def variable_mp3(folder, seconds=3):
    """An MP3 of several bit rates whose first frame says how long it is, and the bytes of that frame."""
    noise = numpy.random.default_rng(0).normal(0, 0.1, 16_000 * seconds)
    noise[8000:20_000] *= 0.001
    file = folder / "variable.mp3"
    soundfile.write(file, noise, 16_000, format="MP3", bitrate_mode="VARIABLE")
    content = file.read_bytes()
    kilobits = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)[(content[2] >> 4) - 1]
    return content, 72 * kilobits * 1000 // 16_000 + (content[2] >> 1 & 1)


def test_an_mp3_that_does_not_say_how_long_it_is_is_read_whole(tmp_path):
    """Its encoder says it in a first frame. Without that, there are 576 samples more at the beginning, and the rest of
    the last frame."""
    content, first = variable_mp3(tmp_path)
    whole = read(tmp_path / "variable.mp3", max_seconds=4.0)
    assert len(whole) == 48_000
    info = content[:36].ljust(first, b"\0")[:36] + b"VBRI" + struct.pack(">HHHII", 1, 0, 75, len(content), 0)
    for name, head in (("silent", b""), ("fraunhofer", info.ljust(first, b"\0"))):
        plain = read(written(tmp_path, head + content[first:] + b"TAG" + bytes(125), f"{name}.mp3"), max_seconds=4.0)
        assert 0 <= len(plain) - 48_000 - 576 < 2 * 576
        torch.testing.assert_close(plain[576:48_000], whole[: 48_000 - 576], atol=0.02, rtol=0)
        assert sound_header(tmp_path / f"{name}.mp3").frames == len(plain)
    assert len(read(written(tmp_path, content * 2, "joined.mp3"), max_seconds=8.0)) > 96_000


@pytest.mark.parametrize("kind", ["Xing", "VBRI"])
def test_an_mp3_that_is_cut_is_refused_by_its_first_frame(tmp_path, kind):
    content, first = variable_mp3(tmp_path)
    if kind == "VBRI":
        info = content[:36] + b"VBRI" + struct.pack(">HHHII", 1, 0, 75, len(content), 0)
        content = info.ljust(first, b"\0") + content[first:]
    for cut in (1, len(content) // 2):
        with pytest.raises(
            UserError, match=f"its header declares {len(content)} bytes, and {len(content) - cut} are there"
        ):
            check(written(tmp_path, content[:-cut], "cut.mp3"))


def test_a_tag_after_a_flac_is_no_sound(tmp_path):
    content = sound_in(tmp_path, "flac") + b"TAG" + bytes(125)
    assert read(written(tmp_path, content)).equal(read(tmp_path / "plain.flac"))


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, content, problem",
    [
        ("a.wav", b"", r"a.wav is empty \(0 bytes\)"),
        ("a.wav", b"These are words, and no sound at all.\n" * 9, "a.wav cannot be read as sound .*not recognised"),
        ("a.au", b"These are words, and no sound at all.\n" * 9, "a.au cannot be read as sound .*not recognised"),
        ("a.vox", b"These are words, and no sound at all.\n" * 9, "a.vox cannot be read as sound .*not recognised"),
        ("a.m4a", b"\0\0\0\x20ftypM4A " + bytes(99), "a.m4a is an MP4 .*cannot be read; convert it"),
        ("a.wav", wav()[:30], "a.wav cannot be read as sound"),
        ("a.wav", b"RIFF" + bytes(4) + b"WAVE" + bytes(100_000), "a.wav cannot be read as sound"),
        ("a.raw", bytes(2000), "a.raw cannot be read as sound"),
        ("a.wav", wav(samples=0), "a.wav holds no samples; take it out"),
        ("a.wav", wav(samples=0, riff=0, data=0), "a.wav holds no samples"),
        ("a.wav", wav(samples=0, after=b"LIST\x04\0\0\0abcd"), "a.wav holds no samples"),
        ("a.wav", wav(samples=1), "a.wav has 1 sample at 16000 Hz, 0.000063 s; the shortest sound is 0.01 s"),
        ("a.wav", wav(samples=159), "a.wav has 159 samples at 16000 Hz.*shortest"),
        ("a.wav", wav()[:-2], "a.wav is cut short: its header declares 3200 bytes of samples, and 3198 are there"),
        ("a.wav", wav()[:1000], "a.wav is cut short: its header declares 3200 bytes of samples, and 956 are there"),
        ("a.wav", wav(data=0x40000000, riff=0x40000024), "cut short: its header declares 1073741824 bytes.* 3200 are"),
        ("a.wav", wav(samples=32_001), "a.wav has 2.00006 s; data.max_seconds=2: cut it, or raise data.max_seconds"),
        (
            "a.wav",
            wav(rate=8000),
            "a.wav has 8000 Hz; data.sample_rate_hz=16000: set data.sample_rate_hz=8000, or data",
        ),
    ],
)
def test_a_bad_file_is_one_error_by_its_header(tmp_path, name, content, problem):
    file = written(tmp_path, content, name)
    for look in (check, read):
        with pytest.raises(UserError, match=problem) as caught:
            look(file)
        assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_file_is_named(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    for name, problem in [
        ("nothing.wav", "nothing.wav does not exist"),
        ("folder.wav", "folder.wav is a folder, not a sound file"),
        ("pipe.wav", "pipe.wav is no regular file"),
        ("null\0.wav", "cannot be read|does not exist"),
        (f"{'long' * 200}.wav", "cannot be read: File name too long|does not exist"),
    ]:
        with pytest.raises(UserError, match=problem):
            read(tmp_path / name)


def test_a_file_that_may_not_be_read(tmp_path):
    file = written(tmp_path, wav())
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(UserError, match="sound.wav cannot be read: Permission denied"):
        read(file)


@pytest.mark.parametrize("value", [numpy.nan, numpy.inf, -numpy.inf])
def test_what_is_not_finite_is_refused(tmp_path, value):
    samples = sine()
    samples[[123, 4567]] = value
    soundfile.write(tmp_path / "sound.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(UserError, match="sound.wav holds 2 samples that are NaN or infinite, the first at sample 123"):
        read(tmp_path / "sound.wav")


def test_another_scale_is_refused(tmp_path):
    soundfile.write(tmp_path / "sound.wav", sine(amplitude=20_000), 16_000, subtype="FLOAT")
    with pytest.raises(UserError, match=r"sound.wav peaks at 20000; samples that are stored as floats lie in -1"):
        read(tmp_path / "sound.wav")


@pytest.mark.parametrize("kind", ["AIFF", "AU", "W64", "RF64", "WAVEX"])
def test_a_cut_file_is_refused_by_its_header(tmp_path, kind):
    """libsndfile takes what is there for the whole."""
    soundfile.write(tmp_path / "whole", sine(), 16_000, format=kind, subtype="PCM_24")
    content = (tmp_path / "whole").read_bytes()
    assert check(written(tmp_path, content)).frames == 8000
    with pytest.raises(UserError, match="is cut short: its header declares 2400[08] bytes of samples"):
        check(written(tmp_path, content[: len(content) // 2]))


def test_a_cut_flac_is_refused_when_it_is_decoded(tmp_path):
    file = tmp_path / "sound.flac"
    write_sound(file, 1.0)
    for part in (0.9, 0.5, 0.02):
        content = file.read_bytes()
        cut = written(tmp_path, content[: int(len(content) * part)], "cut.flac")
        with pytest.raises(UserError, match="cut.flac (is cut short|cannot be read as sound)"):
            read(cut)


@pytest.mark.parametrize("kind", ["CAF", "NIST", "SVX"])
def test_other_files_that_are_cut_are_refused_by_their_header(tmp_path, kind):
    soundfile.write(tmp_path / "whole", sine(), 16_000, format=kind, subtype="PCM_16")
    content = (tmp_path / "whole").read_bytes()
    assert check(written(tmp_path, content)).frames == 8000
    for cut in (2, 3000):
        with pytest.raises(UserError, match="is cut short: its header declares 1600[04] bytes of samples, and 1"):
            check(written(tmp_path, content[:-cut]))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_pages_of_an_ogg_that_are_missing(tmp_path, subtype):
    noise = numpy.random.default_rng(0).normal(0, 0.1, 64_000)
    soundfile.write(tmp_path / "whole", noise, 16_000, format="OGG", subtype=subtype)
    content = (tmp_path / "whole").read_bytes()
    last = content.rindex(b"OggS")
    assert check(written(tmp_path, content + b"rubbish"), max_seconds=4.0).frames == 64_000
    for part in (content[:-1], content[:last], content[: content.rindex(b"OggS", 0, last)]):
        with pytest.raises(UserError, match="is cut short: the page that ends the sound is missing; .*rewrite it"):
            check(written(tmp_path, part), max_seconds=4.0)
    with pytest.raises(UserError, match="holds several sounds, one after the other, of which only the first"):
        check(written(tmp_path, content + content), max_seconds=9.0)


def test_rates_that_have_nothing_in_common_are_refused(tmp_path):
    file = written(tmp_path, wav(rate=15_991))
    with pytest.raises(UserError, match="15991 Hz, which cannot be converted to data.sample_rate_hz=16000: .* is 1;"):
        read(file, resample=True)


def claims(folder, name, frames, channels):
    """A small FLAC file that says it has so many frames and channels."""
    file = folder / name
    write_sound(file, 0.1)
    content = bytearray(file.read_bytes())
    low = (channels - 1) << 41 | 15 << 36 | frames  # rate 20 bits, channels 3, bits 5, frames 36
    content[18:26] = ((16_000 << 44) | low).to_bytes(8, "big")
    file.write_bytes(content)
    return file


def test_a_header_that_claims_gigabytes_takes_no_memory(tmp_path):
    files = [
        written(tmp_path, wav(data=0x40000000), "claims.wav"),
        claims(tmp_path, "claims.flac", 2**35, 8),
        claims(tmp_path, "within.flac", 30 * 16_000, 1),
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        for file in files:
            with pytest.raises(UserError, match="cut short|data.max_seconds=30|cannot be read as sound"):
                read(file, max_seconds=30.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10e6
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_many_channels_take_little_memory(tmp_path):
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1000, 16_000, 16_000_000, 1000, 8)
    content = head + b"data" + struct.pack("<I", 32_000_000) + bytes([128]) * 32_000_000
    file = written(tmp_path, b"RIFF" + struct.pack("<I", len(content)) + content)
    tracemalloc.start()
    try:
        assert read(file).equal(torch.zeros(32_000))
        assert tracemalloc.get_traced_memory()[1] < 10e6, "decoded whole, it would take 128 MB"
    finally:
        tracemalloc.stop()


def test_real_recordings():
    if "MMTX_DATA" not in os.environ:
        pytest.skip("MMTX_DATA is not set: it names the folder of real data, here fsdd/*.wav")
    for file in sorted((Path(os.environ["MMTX_DATA"]) / "fsdd").glob("7_*.wav")):
        waveform = read(file, rate=8000, max_seconds=2.5)
        assert len(waveform) == sound_header(file).frames and 0.01 < waveform.abs().max() <= 1
