"""What is printed after a run."""

from pathlib import Path

from mmtx.commands.printed import print_results
from mmtx.run.directory import RunDirectory


def test_pictures_of_the_last_step_are_named_beside_sounds(tmp_path: Path, capsys) -> None:
    run = RunDirectory(tmp_path)
    run.metrics.write_text('{"test/loss": 0.5, "train/loss": 1}')
    run.samples.mkdir()
    for name in ("classify_step000020.png", "classify_step000100.png", "classify_step000100_7.wav", "notes.txt"):
        (run.samples / name).touch()
    print_results(run)
    assert capsys.readouterr().out == f"test/loss 0.5\nsamples: {run.samples / 'classify_step000100.png'}\n"
