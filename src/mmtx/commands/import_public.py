"""``mmtx import``."""

import shlex

from mmtx.commands.arguments import Paths, parse, refuse

HELP = """\
usage: mmtx import PATH OUT [adapters=FOLDER] [key=value ...]

PATH is a folder with config.json and weights (safetensors, pytorch_model.bin, CTranslate2's model.bin of Whisper), a
file of weights (openai-whisper's .pt, a state of timm's ViT), or on a hub, hub://owner/name@revision. OUT becomes a run
directory, for evaluate, generate and init_from. key=value is laid over the model's own config: num_attention_heads=3
for a state of timm, which lacks it. adapters=FOLDER adds low-rank updates that the library peft has written, beside
the weights. What was exported with --format mmtx becomes the run it was, without its log.
"""

PATHS = Paths(2, 2, "name a public model and the run directory that it becomes: mmtx import PATH OUT")


def run(arguments: list[str]) -> int:
    from mmtx.config.overrides import written
    from mmtx.interop import from_pretrained
    from mmtx.interop.peft_read import with_adapters
    from mmtx.run.directory import is_model_folder
    from mmtx.run.import_export import save_as_run, shape_of, unpack

    (path, out), options, _ = parse(arguments, PATHS, None)
    if is_model_folder(path):
        refuse([f"{key}={value}" for key, value in options.items()], ())
        print(f"run directory: {unpack(path, out).path}")
        return 0
    adapters = options.pop("adapters", None)
    learner = from_pretrained(path, options)
    if adapters is not None:
        learner = with_adapters(learner, str(adapters))
    directory = save_as_run(learner, out)
    assert learner.config is not None
    print(f"{learner.config['name']}: {learner.num_parameters:,} parameters")
    print(f"to train on: {shlex.join([f'init_from={written(path)}', *shape_of(learner)])}")
    print(f"run directory: {directory.path}")
    return 0
