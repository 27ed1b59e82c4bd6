"""An optimiser for matrices from outside, beside AdamW: docs/extending.md, done."""

import pytest
from packages import train, unpack
from run_cli import TINY, mmtx, text_of
from test_resume import final_state


def test_it_steps_query_key_and_value_apart(tmp_path):
    folder = unpack("own_optimiser", tmp_path)
    done = mmtx(*train("own_optimiser"), "trainer.max_steps=2", "run_dir=run", cwd=folder)
    assert done.returncode == 0, text_of(done)
    state = {key: value for key, value in final_state(folder / "run").items() if "qkv" in key and "steps" in key}
    assert list(state.values()) == [2, 2, 2]


@pytest.mark.parametrize("optim", ["muon", "schedule_free"])
def test_shards_are_refused(optim, tmp_path):
    shards = ["trainer.strategy=fsdp2", "trainer.devices=2", "trainer.accelerator=cpu"]
    done = mmtx("check", "experiment=spell_digits", *TINY, f"optim={optim}", *shards, cwd=tmp_path)
    assert done.returncode == 2 and "steps whole parameters" in done.stderr, text_of(done)
