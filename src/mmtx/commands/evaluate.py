"""``mmtx evaluate``."""

import json

from mmtx.commands.arguments import RUN, parse

HELP = """\
usage: mmtx evaluate RUN|CKPT [split=test] [checkpoint=last|best] [drop=[..]] [modality=[..]] [key=value ...]

Prints the metrics of a saved run as JSON. Overrides change the run's own config: data.path=..., loader.batch_size=...

  drop=[audio]            how much the model relies on a part: all samples lack it
  modality=[image,text]   the same weights with another set; what is new to them is named, and as it starts
  prompts=['a photo of a {}']   classes of any labelled data, described to a run that compares texts (as CLIP)
  judge=RUN               of a run that makes pictures or sounds: a classifier or a recogniser of real ones reads them
  drawing={temperature: 0.9}   how they are made, by options of mmtx generate
  probe=label             of any run: classes that its features tell apart, by a linear map and by nearest neighbours
  probing={labelled: 100}   learnt from how many labels (all), of which names, pool=mean|summary, neighbours=5, seed=0
  bits={levels: 17}       of a flow on pictures: bits per dimension, of so many grey levels; samples=100, num_steps=20
  device=cpu              auto is the GPU if there is one, else the CPU
  precision=bf16-mixed    as trainer.precision; null is that of the run's training on a GPU, and 32-true on a CPU
"""


def run(arguments: list[str]) -> int:
    from mmtx.run.evaluation import DEFAULTS, OF_METRICS, evaluate_run

    known = {**DEFAULTS, **OF_METRICS}
    (path,), given, overrides = parse(arguments, RUN, known)
    print(json.dumps(evaluate_run(path, {**known, **given}, overrides), indent=2))
    return 0
