"""``mmtx import``."""

import shlex

from mmtx.commands.arguments import Paths, parse, refuse

HELP = """\
usage: mmtx import PATH OUT [adapters=FOLDER] [drop=[NAME]] [tokens=[...]|N] [context=N] [size=N]
                   [add={NAME: PATH}] [projector=NAME] [key=value ...]

PATH is a folder with config.json and weights (safetensors, pytorch_model.bin, CTranslate2's model.bin of Whisper), a
file of weights (openai-whisper's .pt, a state of timm's ViT), or on a hub, hub://owner/name@revision. OUT becomes a run
directory, for evaluate, generate and init_from. key=value is laid over the model's own config: num_attention_heads=3
for a state of timm, which lacks it. What was exported with --format mmtx becomes the run it was, without its log.

  adapters=FOLDER  adds low-rank updates that the library peft has written, beside the weights
  drop=[NAME]      takes names out of the set, with their parameters
  tokens=["<a>"]   gives texts more tokens (or tokens=8 more ids, without a tokenizer), whose rows begin as the mean of
                   the others
  context=N        the longest text; a table of positions is cut, or drawn out linearly
  size=N           height and width of pictures; a table of positions is resampled bicubically
  add={NAME: PATH} brings names into the set; the model at PATH becomes the name's own encoder
  projector=NAME   what follows such an encoder: linear, mlp, pixel_shuffle or resampler; it begins as drawn

All but the first also change a run of mmtx (PATH is its directory), and print what became of every weight.
"""

PATHS = Paths(2, 2, "name a public model and the run directory that it becomes: mmtx import PATH OUT")


def run(arguments: list[str]) -> int:
    from mmtx.config.options import checked, options_of
    from mmtx.config.overrides import written
    from mmtx.interop import from_pretrained
    from mmtx.interop.peft_read import with_adapters
    from mmtx.run.directory import is_model_folder, is_run
    from mmtx.run.import_export import load, save_as_run, shape_of, unpack
    from mmtx.run.surgery import operate

    (path, out), options, _ = parse(arguments, PATHS, None)
    adapters, known = options.pop("adapters", None), options_of(operate)
    changes = checked({key: options.pop(key) for key in known if key in options}, known)
    is_own = is_model_folder(path) or (bool(changes) and is_run(path))
    if is_own:
        refuse([f"{key}={value}" for key, value in options.items()], known)
    if is_own and not changes:
        print(f"run directory: {unpack(path, out).path}")
        return 0
    learner = load(path) if is_own else from_pretrained(path, options)
    if adapters is not None:
        learner = with_adapters(learner, str(adapters))
    if changes:
        learner, reports = operate(learner, **changes)
        print(*reports, sep="\n")
    directory = save_as_run(learner, out)
    assert learner.config is not None
    print(f"{learner.config['name']}: {learner.num_parameters:,} parameters")
    left_out = (learner.origin or {}).get("left_out", [])
    if left_out:
        print(f"left out: {', '.join(dict.fromkeys(key.split('.')[0] for key in left_out))}, which mmtx does not have")
    if not is_own and "add" not in changes:
        begin = f"init_from={written(out if changes else path)}"
        print(f"to train on: {shlex.join([begin, *shape_of(learner)])}")
    print(f"run directory: {directory.path}")
    return 0
