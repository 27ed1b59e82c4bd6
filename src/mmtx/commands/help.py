"""What ``mmtx --help`` and ``mmtx COMMAND --help`` print."""

HELP = """\
mmtx: experiments with multimodal transformers. Chop everything up and throw it into the set.

usage: mmtx COMMAND [key=value ...]

  mmtx train [key=value ...]         one run; without arguments, the quickstart
  mmtx train -m key=a,b ...          a sweep: every combination, one process each, on every device there is
  mmtx train --config FILE           repeat a saved run (RUN/config.yaml), with changes if you like
  mmtx resume DIR                    goes on where a run was, or a sweep
  mmtx check [key=value ...]         everything that can be wrong, found before anything starts
  mmtx evaluate RUN [key=value ...]  metrics of a saved run; split=val, data.path=..., anything else
  mmtx report DIR...                 runs and sweeps compared: table, pictures, best config as a command
  mmtx sync DIR...                   uploads to W&B what was logged offline
  mmtx generate RUN [prompt=TEXT]    text from a trained model; audio=FILE: what is said in it; or what its acting earns
  mmtx import PATH OUT               a public model (GPT-2, BERT, T5, ViT, Whisper, ...) becomes a run
  mmtx export RUN OUT                a run becomes a public model; --format hf|safetensors|torch_export|onnx
  mmtx list [GROUP]                  what there is to choose from

An experiment is four choices, and every default is one line in conf/:
  data=digits                        what samples look like                    mmtx list data
  modality=[image,text]              which of their parts enter the set        mmtx list modality
  backbone=transformer               who listens                               mmtx list backbone
  objective=[next_token]             what is predicted                         mmtx list objective
A recipe sets all four: experiment=vit_digits. The rest are values: optim.lr=1e-3 backbone.dim=256 seed=1

examples:
  mmtx train experiment=vit_digits optim.lr=3e-3 seed=1
  mmtx train -m experiment=vit_digits backbone.dim=64,128 seed=1,2,3
  mmtx train experiment=gpt_shakespeare data.path=input.txt
  mmtx generate runs/gpt_shakespeare/2026-01-01_12-00-00 prompt="ROMEO:" max_new_tokens=400 seed=1

exit codes: 0 done, 2 yours to mend (one message says what), 1 anything else, 130/143 interrupted, state saved
'mmtx COMMAND --help' says more.
"""

COMMAND_HELP = {
    "train": """\
usage: mmtx train [-m] [--config FILE] [key=value ...]

Trains, tests, and writes a run directory (printed first and last):
  config.yaml environment.json status.json metrics.jsonl metrics.json checkpoints/ samples/ wandb/

Choose groups by name (experiment= data= modality=[..] backbone= objective=[..] optim= loader= trainer=), set values by path
(backbone.dim=256), swap parts (backbone/mlp=swiglu, optim/schedule=wsd, data/vocabulary=bpe). See 'mmtx list'.

often used:
  seed=1  trainer.max_steps=1000  trainer.max_epochs=10  trainer.devices=4  trainer.precision=bf16-mixed
  trainer.accumulate_grad_batches=4  optim.lr=1e-3  loader.batch_size=64  data.path=FILE  loader.num_workers=4
  log_every_steps=10  checkpoint.every_steps=500  run_dir=DIR  logger=[]  (no W&B)

-m            values with commas are a sweep: -m seed=1,2,3 modality=[image],[text],[image,text]
              run_dir=DIR: again, what is not done of it. hydra.launcher.devices=auto|cpu:N|[0,1] devices_per_job=N
              jobs_per_device=N on_failure=continue|stop|retry max_failures=N job_timeout=SECONDS (each after
              hydra.launcher.); hydra/launcher=slots|submitit_slurm|submitit_local|ray
              a search: hydra/sweeper=optuna hydra.sweeper.n_trials=20 'optim.lr=tag(log,interval(1e-4,1e-1))', or a
              file of such overrides: sweep=lr
--config FILE repeat a saved run; overrides change it, and mean what they mean without it (Hydra's grammar)
Your own configs: a folder ./conf beside the packaged one. Your own classes: plugins=[my_package].
SIGTERM, Ctrl-C, a closed terminal and SLURM's warning (--signal=USR1@60) save and end the run; the last also has SLURM
start the job again, and then the same command with the same run_dir=DIR continues.
""",
    "resume": """\
usage: mmtx resume DIR [key=value ...]

Continues a run from its newest valid checkpoint, with nothing but its directory: every later step is what it would
have been. What only says how it runs may be changed: trainer.devices=2 loader.num_workers=4 checkpoint.every_minutes=5
A sweep: jobs that are finished stay, half-done ones continue, failed ones run again, each from its frozen config;
hydra.launcher.key=value and hydra.sweeper.n_trials=N may be changed.
""",
    "check": """\
usage: mmtx check [-m] [--config FILE] [key=value ...]

Composes and builds everything that 'mmtx train' would, reads the data, and prints every problem at once, or a summary.
""",
    "evaluate": """\
usage: mmtx evaluate RUN|CKPT [split=test] [checkpoint=last|best] [drop=[..]] [modality=[..]] [key=value ...]

Prints the metrics of a saved run as JSON. Overrides change the run's own config: data.path=..., loader.batch_size=...

  drop=[audio]            how much the model relies on a part: all samples lack it
  modality=[image,text]   the same weights with another set; what is new to them is named, and as it starts
""",
    "report": """\
usage: mmtx report DIR... [key=value ...]

Compares runs and sweeps, finished or not: prints a table with seeds as mean ± sd and the best config as a command, and
writes report.html (with pictures) and report.csv into the directory, or the one above all of them.

  metric=val/accuracy   what to sort by; else what best.ckpt was chosen by
  mode=max              whether more of it is better (max) or less (min), where the metric does not declare it
  empty=0.1             sweeps over modality=: the metric's value for a model that is given nothing, such as chance
  out=DIR               where to write
""",
    "sync": """\
usage: mmtx sync DIR... [parallel=8]

Uploads every run in or below the directories that was logged offline, and skips what is up. Where W&B's own file is
lost or lacks rows, the run is rebuilt from metrics.jsonl.
""",
    "generate": """\
usage: mmtx generate RUN|CKPT [key=value ...]

prompt, image, audio, part and out are taken letter by letter; the others are values as in 'mmtx train'.

  prompt=TEXT           what to continue, or to translate; needed where the text is a stream
  image=FILE            a picture to write about, where the set has one
  audio=FILE            what is said in a sound file, with times; of a folder or a manifest (.csv, .jsonl) as JSONL
  index=N               or: sample N of the run's test (or validation) part
  max_new_tokens=N      upper limit; 200 where a text goes on
  seed=0                the same seed gives the same text, or the same episodes: it is the first one's, others count up
  temperature=1.0       0 takes the best id each time
  top_k=null top_p=null keep the k best; the smallest set of probability p
  beam_size=null        beam search, for models that write a whole text (objective=[seq2seq]); null: as trained
  length_penalty=null   above 0 longer texts gain
  resample=false        convert a sound of another rate than the model hears
  overlap_seconds=1.0   of the windows that a long recording is cut into
  cache=true            keep keys and values (the text is the same without, only slower)

of a model that acts (objective=[action]), a line of JSON for every episode, and one that sums them up:
  part=NAME             of a mixture, where it is to act: needed where several parts can be acted in
  episodes=10           of each return that is asked for
  target_return=null    what to ask for, one or several: target_return=[500,100]; null: as the run's objective says
  out=FILE.gif          a film of the first episode
""",
    "import": """\
usage: mmtx import PATH OUT [key=value ...]

PATH is a folder with config.json and weights (safetensors, pytorch_model.bin, CTranslate2's model.bin of Whisper), or a
file of weights (openai-whisper's .pt, a state of timm's ViT). OUT becomes a run directory, for evaluate, generate and
init_from. key=value is laid over the model's own config: num_attention_heads=3 for a state of timm, which does not say.
""",
    "export": """\
usage: mmtx export RUN|CKPT OUT [--format hf|safetensors|torch_export|onnx]

  hf            a folder with config.json, model.safetensors and tokenizer.json, for `transformers` (the default)
  safetensors   a file of the weights by the names that mmtx has for them
  torch_export  a program for torch.export.load
  onnx          a program for ONNX (extra `onnx`)
""",
    "list": """\
usage: mmtx list [GROUP]

Groups and their options, one line each. A group is chosen by group=option; a nested one by backbone/mlp=swiglu.
""",
}
