"""Files of a user's own, in an empty folder: each kind is trained with one command and no code."""

import json

import pytest
from run_cli import TINY, mmtx
from tables import png, wav, write_table

ROWS = [
    {"picture": png(i), "sound": wav(i), "text": f"number {i % 7}", "kind": "abc"[i % 3]}
    | {"x": i, "y": -i / 2, "z": i % 5, "target": i * 100}
    for i in range(40)
]
CASES = {
    "jsonl": ("{image: picture, text: text}", "[image,text]", "[next_token]"),
    "parquet": ("{audio: sound, label: kind}", "[audio]", "[classify]"),
    "datasets": ("{text: text}", "[text]", "[next_token]"),
    "tar": ("{image: png, text: txt, label: kind}", "[image,text]", "[classify]"),
    "csv": ("{state: [x,y,z], target: target}", "[state]", "[regression]"),
}


@pytest.mark.parametrize("kind", CASES)
def test_one_command_trains(kind, tmp_path):
    columns, names, objective = CASES[kind]
    wanted = {"csv": ("x", "y", "z", "target"), "datasets": ("text",)}.get(kind, ("picture", "sound", "text", "kind"))
    path = write_table(tmp_path, kind, [{key: row[key] for key in wanted} for row in ROWS])
    words = ["data=manifest", f"data.path={path}", f"data.columns={columns}", "data.size=8", "data.max_seconds=0.2"]
    words += [f"modality={names}", f"objective={objective}", "loader.batch_size=8", "callbacks=[]", *TINY]
    done = mmtx("train", *words, "run_dir=run", "trainer.max_steps=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"val/loss", "test/loss"} <= set(metrics)
