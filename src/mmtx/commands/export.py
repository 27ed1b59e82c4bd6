"""``mmtx export``."""

from mmtx.commands.arguments import Paths, take
from mmtx.errors import UserError, nearest

HELP = """\
usage: mmtx export RUN|CKPT OUT [--format hf|peft|mmtx|safetensors|codes|torch_export|onnx] [--license ID]

  hf            a folder with config.json, model.safetensors and tokenizer.json, for `transformers` (the default)
  peft          a folder with adapter_config.json and adapter_model.safetensors: low-rank updates (lora) by themselves,
                and what learnt besides them, for the library peft; the other formats have updates merged into weights
  mmtx          a folder with model.safetensors, mmtx.json and config.yaml: all that mmtx knows of the model, to the bit
  safetensors   a file of the weights by the names that mmtx has for them
  codes         a file of the codec that a run of modality=[coded_image], [coded_video] or [coded_audio] has learnt, for
                data=coded_pictures, coded_films or coded_sounds
  torch_export  a program for torch.export.load
  onnx          a program for ONNX runtimes (extra `onnx`)

A program takes the fields of the data by name (image.pixels, text.ids, text.length), any number of samples and any
lengths, in float32; one of an imported model, its family's inputs. OUT.json describes inputs and outputs. It is
compared with the run on a batch of its data, and not written where it differs.

A model card goes with it, README.md in a folder, OUT.md beside a file: the set, the data, the figures, how it was
trained, how it is used, and the licence of the weights that --license names (apache-2.0).
"""

PATHS = Paths(2, 2, "name a run and where it goes: mmtx export RUN OUT")


def run(arguments: list[str]) -> int:
    from mmtx.run.import_export import FORMATS, export

    given, paths = take(arguments, "--format", "a format: --format onnx")
    license, paths = take(paths, "--license", "a licence: --license apache-2.0")
    form = "hf" if given is None else given
    if form not in FORMATS:
        raise UserError(f"--format {form}: there is no such format; {nearest(form, FORMATS)}")
    PATHS.check(paths)
    place, out = paths
    about = export(place, out, form, license)
    print("\n".join(filter(None, [about, f"written: {out}"])))
    return 0
