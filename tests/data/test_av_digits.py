"""Digits seen and heard, each badly."""

import shlex

import pytest
import torch
from contracts import check_source
from run_cli import TINY, mmtx, text_of
from sklearn.decomposition import PCA

from mmtx.commands.main import main
from mmtx.data.audio import synthesis
from mmtx.data.audio.spoken_digits import SpokenDigits
from mmtx.data.base import Samples, Source
from mmtx.data.image.digits import Digits
from mmtx.data.multimodal.av_digits import AVDigits
from mmtx.data.text.vocabulary import Characters
from mmtx.errors import InvalidValue, UserError

FEW = {"num_train": 12, "num_val": 4, "num_test": 5}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """One for all tests, so that the clips are made once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "av_digits"))


def pictures():
    return Digits(vocabulary=Characters(), augment=None, num_val=144, split_seed=0)


def voices():
    sizes = {"min_digits": 1, "max_digits": 1, "sample_rate_hz": 8000, "split_seed": 0}
    return SpokenDigits(vocabulary=Characters(), **sizes, **FEW)


def source(**changes):
    keys = {"picture_energy": 0.25, "voice_snr_db": -10.0, "split_seed": 0, "augment": torch.nn.Identity()}
    return AVDigits(**{"pictures": pictures(), "voices": voices(), **keys, **changes})


def splits(made):
    return {"train": made.train(), "val": made.val(), "test": made.test()}


def test_contract():
    check_source(source())


def test_unharmed_it_is_a_picture_and_a_clip_of_the_same_digit():
    made, seen, heard = source(picture_energy=1.0, voice_snr_db=None), splits(pictures()), splits(voices())
    for name, split in splits(made).items():
        assert len(split) == len(heard[name]) == FEW[f"num_{name}"]
        shown = {}
        for i in range(len(seen[name])):
            shown.setdefault(seen[name][i]["image"]["pixels"].numpy().tobytes(), seen[name][i]["label"]["class"])
        for i in range(len(split)):
            sample, clip = split[i], heard[name][i]
            assert sample["audio"]["waveform"].equal(clip["audio"]["waveform"])
            assert sample["label"]["class"] == clip["label"]["class"]
            assert shown[sample["image"]["pixels"].numpy().tobytes()] == sample["label"]["class"]


def test_pictures_are_in_one_split_only():
    made = {name: {sample.numpy().tobytes() for sample in each} for name, each in _all_pixels().items()}
    assert not made["train"] & made["test"] and not made["val"] & made["test"] and not made["train"] & made["val"]


def _all_pixels():
    made = source(picture_energy=1.0)
    return {name: pairs.pixels for name, pairs in made._parts.items()}


@pytest.mark.parametrize("energy", [0.1, 0.3, 0.6, 0.9])
def test_pictures_keep_the_first_principal_components(energy):
    made = source(picture_energy=energy)
    flat = made._parts["train"].pixels.flatten(1).double().numpy()
    shares = PCA().fit(flat).explained_variance_ratio_.cumsum()
    peer = PCA(n_components=max(1, int((shares <= energy).sum()))).fit(flat)
    whole = source(picture_energy=1.0)
    for i in range(FEW["num_test"]):
        before = whole.test()[i]["image"]["pixels"].flatten()[None].double().numpy()
        kept = torch.from_numpy(peer.inverse_transform(peer.transform(before))).round().clamp(0, 255).to(torch.uint8)
        assert (made.test()[i]["image"]["pixels"].flatten().int() - kept[0].int()).abs().max() <= 1


@pytest.mark.parametrize("snr_db", [-10.0, 5.0])
def test_sound_has_the_requested_noise(snr_db):
    clean, noisy = source(voice_snr_db=None), source(voice_snr_db=snr_db)
    for name, split in splits(noisy).items():
        for i in range(len(split)):
            voice, heard = (splits(made)[name][i]["audio"]["waveform"] for made in (clean, noisy))
            share = (heard @ voice) / (voice @ voice)  # noise has nothing to do with the voice
            noise = heard - share * voice
            measured = 10 * torch.log10((share * voice).square().mean() / noise.square().mean())
            assert float(measured) == pytest.approx(snr_db, abs=1.5)
            torch.testing.assert_close(heard.abs().max(), voice.abs().max())


def test_training_is_drawn_anew_and_the_test_is_not():
    made = source()
    for split, again in ((made.train(), False), (made.test(), True)):
        torch.manual_seed(0)
        one, other = split[0], split[0]
        assert one["audio"]["waveform"].equal(other["audio"]["waveform"]) == again
    pixels = {made.train()[0]["image"]["pixels"].numpy().tobytes() for _ in range(20)}
    assert len(pixels) > 10, "the clip stands beside another picture each time"
    assert not source(split_seed=1).test()[0]["audio"]["waveform"].equal(made.test()[0]["audio"]["waveform"])


def test_only_training_is_augmented():
    made = source(picture_energy=1.0, augment=torch.zeros_like)
    assert made.train()[0]["image"]["pixels"].max() == 0 < made.test()[0]["image"]["pixels"].max()


class NoSevens(Source):
    """Pictures of all digits but one."""

    specs = pictures().specs

    def train(self):
        return Samples(9, lambda i: {**pictures().train()[0], "label": {"class": torch.tensor(i if i < 7 else i + 1)}})

    def val(self):
        return None

    def test(self):
        return None


def test_a_digit_without_a_picture_is_named():
    said = {int(voices().train()[i]["label"]["class"]) for i in range(FEW["num_train"])}
    assert 7 in said
    with pytest.raises(UserError, match="class 7 is in the train part of data.voices, and has no picture"):
        source(pictures=NoSevens())


def test_a_split_needs_both():
    class Untested(Digits):
        def test(self):
            return None

    made = source(pictures=Untested(vocabulary=Characters(), augment=None, num_val=144, split_seed=0))
    assert made.test() is None and made.val() is not None


@pytest.mark.parametrize("energy", [0.0, -0.1, 1.1])
def test_bad_values_are_named(energy):
    with pytest.raises(InvalidValue, match=f"^picture_energy={energy} must lie above 0 and up to 1"):
        source(picture_energy=energy)


def test_a_plain_installation_names_the_missing_extra(monkeypatch, capsys):
    monkeypatch.setattr(synthesis, "PACKAGE", "not-there-at-all")
    assert main(["check", "experiment=av_digits"]) == 2
    assert "pip install 'mmtx[speech]'" in capsys.readouterr().err


def test_the_recipe_ends_with_what_to_try_next(tmp_path):
    few = [f"data.voices.{key}={value}" for key, value in FEW.items()]
    words = ["experiment=av_digits", *TINY, *few, "trainer.max_steps=1", "run_dir=run"]
    done = mmtx("train", *words, cwd=tmp_path)
    assert done.returncode == 0, text_of(done)
    *_, hint, command, last = done.stdout.splitlines()
    assert last.startswith("run directory: ") and hint.endswith(":")
    sweep = ["modality=[image],[audio],[image,audio]", "seed=1,2,3"]
    assert shlex.split(command) == ["mmtx", "train", "-m", "experiment=av_digits", *sweep]
