"""``mmtx predict``."""

from mmtx.commands.arguments import RUN, parse

HELP = """\
usage: mmtx predict RUN|CKPT out=FILE [split=test] [checkpoint=last|best] [drop=[..]] [modality=[..]] [key=value ...]

Writes what a saved run predicts of every sample: a row each, with its index, its file, and the classes with their
probabilities, texts, actions, numbers or vectors. FILE is a .csv, .jsonl or .parquet (pip install 'mmtx[data]').
Overrides change the run's own config: data.path=..., loader.eval_batch_size=...; what is predicted may be missing.

  out=FILE                a list is JSON in CSV; stopped on the way, the same command goes on from FILE.part
  split=train             samples without augmentation; val, or test; all: every sample once, with its split and row
  drop=[audio]            all samples lack it
  modality=[image,text]   the same weights with another set
  device=cpu              auto is the GPU if there is one, else the CPU
  precision=bf16-mixed    as trainer.precision; null is that of the run's training on a GPU, and 32-true on a CPU
"""


def run(arguments: list[str]) -> int:
    from mmtx.run.prediction import DEFAULTS, predict_run

    (path,), given, overrides = parse(arguments, RUN, DEFAULTS, texts=["out"])
    print(predict_run(path, {**DEFAULTS, **given}, overrides))
    return 0
