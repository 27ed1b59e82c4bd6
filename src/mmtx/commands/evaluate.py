"""``mmtx evaluate``."""

import json

from mmtx.commands.arguments import RUN, parse

HELP = """\
usage: mmtx evaluate RUN|CKPT [split=test] [checkpoint=last|best] [drop=[..]] [modality=[..]] [key=value ...]

Prints the metrics of a saved run as JSON. Overrides change the run's own config: data.path=..., loader.batch_size=...

  drop=[audio]            how much the model relies on a part: all samples lack it
  modality=[image,text]   the same weights with another set; what is new to them is named, and as it starts
"""


def run(arguments: list[str]) -> int:
    from mmtx.run.evaluation import DEFAULTS, evaluate_run

    (path,), given, overrides = parse(arguments, RUN, DEFAULTS)
    print(json.dumps(evaluate_run(path, {**DEFAULTS, **given}, overrides), indent=2))
    return 0
