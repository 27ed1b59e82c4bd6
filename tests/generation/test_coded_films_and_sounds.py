"""Films and sounds in codes, from their codec to a file, by the commands of a user."""

import pytest
import soundfile
import torch
from PIL import Image

from mmtx.commands.main import main
from mmtx.data.collate import collate
from mmtx.run.checkpoint_content import load, read_checkpoint
from mmtx.run.directory import newest_checkpoint
from mmtx.run.fitted_source import source_for

TINY = ["backbone.dim=24", "backbone.num_layers=1", "backbone.num_heads=2", "trainer.max_steps=2", "callbacks=[]"]
TINY += ["trainer.max_epochs=null", "trainer.val_every_steps=2", "loader.batch_size=8", "logger=[]"]
TINY += ["trainer.accelerator=cpu"]
SMALL = ["num_train=12", "num_val=3", "num_test=3"]
KINDS = {
    "films": ("video", "moving_digits", [], "film.gif"),
    "sounds": ("audio", "spoken_digits", ["max_digits=1"], "sound.wav"),
}
PADDED = ["modality.audio.pad_to_seconds=1.5", "modality.audio.frames=10", "modality.audio.spectrogram.n_mels=40"]


@pytest.mark.parametrize("kind", ["films", pytest.param("sounds", marks=pytest.mark.slow)])
def test_codes_are_learnt_exported_and_written(kind, tmp_path, monkeypatch):
    """A sample of the frozen name is turned back into what the codec itself makes of it."""
    name, data, more, out = KINDS[kind]
    monkeypatch.chdir(tmp_path)
    own = [f"data.{key}" for key in (*SMALL, *more)] + (PADDED if kind == "sounds" else [])
    learns = [f"data={data}", f"modality=[coded_{name}]", "objective=[reconstruct]"]
    assert main(["train", *learns, f"objective.reconstruct.name={name}", *own, *TINY, "run_dir=codes"]) == 0
    assert main(["export", "codes", "codes.safetensors", "--format", "codes"]) == 0
    assert f"data=coded_{kind}" in (tmp_path / "codes.safetensors.md").read_text()
    given = [f"data.{kind}.{key}" for key in (*SMALL, *more)]
    writes = [f"data=coded_{kind}", "data.vocabulary.path=codes.safetensors", "modality=[label,codes]"]
    writes += ["objective=[next_token]", "objective.next_token.text=codes"]
    assert main(["train", *writes, *given, *TINY, "run_dir=draw"]) == 0
    (tmp_path / "codes.safetensors").unlink()
    assert main(["generate", "draw", "label=1", "count=2", f"out={out}"]) == 0

    codec, frozen = load(tmp_path / "codes").model.tokenizer(name).codec, load(tmp_path / "draw")
    source = source_for(read_checkpoint(newest_checkpoint("draw")), frozen.config)
    samples = [source.test()[index] for index in range(3)]
    batch = collate(samples, {key: source.specs[key] for key in (name, "codes")})
    expected = codec.values(codec.ids(batch[name], batch.lengths[name]))
    with torch.no_grad():
        tokens = frozen.model.tokenizer("codes")(batch["codes"], batch.lengths["codes"], True)
        found = frozen.model.tokenizer("codes").invert(tokens)["frames"]
    torch.testing.assert_close(found, expected)
    if kind == "films":
        assert Image.open(tmp_path / out).n_frames == 10
    else:
        sound, rate = soundfile.read(tmp_path / out)
        assert rate == 16_000 and len(sound) == 2 * 1.5 * rate
