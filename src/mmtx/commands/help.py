"""What ``mmtx --help`` prints. The help of each command stands in its own file."""

HELP = """\
mmtx: experiments with multimodal transformers. Chop everything up and throw it into the set.

usage: mmtx COMMAND [key=value ...]

  mmtx train [key=value ...]         one run; without arguments, the quickstart
  mmtx train -m key=a,b ...          a sweep: every combination, one process each, on every device there is
  mmtx train --config FILE           repeat a saved run (RUN/config.yaml), with changes if you like
  mmtx resume DIR                    continue a run or a sweep
  mmtx check [key=value ...]         every problem, found before anything starts
  mmtx evaluate RUN [key=value ...]  metrics of a saved run; split=val, data.path=..., anything else
  mmtx predict RUN out=FILE          what a saved run predicts of every sample, as a table
  mmtx report DIR...                 runs and sweeps compared: table, pictures, best config as a command
  mmtx sync DIR...                   upload to W&B what was logged offline
  mmtx generate RUN [prompt=TEXT]    text from a trained model; audio=FILE: a transcript; or episodes in its environment
  mmtx import PATH OUT               a public model (GPT-2, BERT, T5, ViT, Whisper, ...) becomes a run
  mmtx export RUN OUT                a run becomes a public model; --format hf|peft|mmtx|safetensors|torch_export|onnx
  mmtx push RUN owner/name           a run goes to a hub, with its card; hub://owner/name is then the place of a run
  mmtx list [GROUP]                  what there is to choose from
  mmtx tune lr|batch_size [key=...]  a learning rate, by a range test; the largest batch that fits into a GPU
  mmtx completion bash|zsh|fish      a script by which the shell completes commands, groups and recipes

An experiment is four choices, and every default is one line in conf/:
  data=digits                        the samples                               mmtx list data
  modality=[image,text]              which of their parts enter the set        mmtx list modality
  backbone=transformer               who attends to whom                       mmtx list backbone
  objective=[next_token]             what is predicted                         mmtx list objective
A recipe sets all four: experiment=vit_digits. The rest are values: optim.lr=1e-3 backbone.dim=256 seed=1

examples:
  mmtx train experiment=vit_digits optim.lr=3e-3 seed=1
  mmtx train -m experiment=vit_digits backbone.dim=64,128 seed=1,2,3
  mmtx train experiment=gpt_shakespeare data.path=input.txt
  mmtx generate runs/gpt_shakespeare/2026-01-01_12-00-00 prompt="ROMEO:" max_new_tokens=400 seed=1

exit codes: 0 done, 2 an error that you can fix (one message), 1 anything else, 130/143 interrupted, state saved
More about one command: mmtx COMMAND --help
"""
