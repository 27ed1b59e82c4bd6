"""``mmtx train``."""

from mmtx.commands import resume
from mmtx.commands.arguments import parse_run
from mmtx.commands.printed import print_results, summary
from mmtx.errors import UserError
from mmtx.process.launch import launch, requeued

HELP = """\
usage: mmtx train [-m] [--config FILE] [key=value ...]

Trains, tests, and writes a run directory (printed first and last):
  config.yaml environment.json status.json metrics.jsonl metrics.json checkpoints/ samples/ wandb/

Choose groups by name (experiment= data= modality=[..] backbone= objective=[..] optim= loader= trainer=), set values by
path (backbone.dim=256), swap parts (backbone/mlp=swiglu, optim/schedule=wsd, data/vocabulary=bpe). See 'mmtx list'.

often used:
  seed=1  trainer.max_steps=1000  trainer.max_epochs=10  trainer.devices=4  trainer.precision=bf16-mixed
  trainer.accumulate_grad_batches=4  optim.lr=1e-3  loader.batch_size=64  data.path=FILE  loader.num_workers=4
  log_every_steps=10  checkpoint.every_steps=500  run_dir=DIR  logger=[]  (no W&B)
  logger=[wandb,csv,tensorboard,mlflow]  callbacks=[progress,samples,early_stopping]

-m            values with commas are a sweep: -m seed=1,2,3 modality=[image],[text],[image,text]
              run_dir=DIR: again, whatever of it is not done. hydra.launcher.devices=auto|cpu:N|[0,1] devices_per_job=N
              jobs_per_device=N on_failure=continue|stop|retry max_failures=N job_timeout=SECONDS (each after
              hydra.launcher.); hydra/launcher=slots|submitit_slurm|submitit_local|ray
              a search: hydra/sweeper=optuna hydra.sweeper.n_trials=20 'optim.lr=tag(log,interval(1e-4,1e-1))', or a
              file of such overrides: sweep=lr
--config FILE repeat a saved run; overrides change it, and mean what they mean without it (Hydra's grammar)
Your own configs: a folder ./conf beside the packaged one. Your own classes: plugins=[my_package].
SIGTERM, Ctrl-C, a closed terminal and SLURM's warning (--signal=USR1@60) save and end the run; the last also has SLURM
start the job again, and then the same command with the same run_dir=DIR continues.
"""


def run(arguments: list[str]) -> int:
    config_file, is_sweep, overrides, run_dir = parse_run(arguments)
    if is_sweep:
        from mmtx.sweep.run_sweep import run_sweep

        return run_sweep(config_file, overrides, run_dir)
    from mmtx.config.stored import read_or_compose
    from mmtx.experiment import assemble
    from mmtx.run.begun_with import pinned_config
    from mmtx.run.directory import RunDirectory, fresh_directory
    from mmtx.run.fitted_source import fitted_state_for
    from mmtx.run.job import begin, start

    here = launch()
    if here.by is not None and run_dir is None:
        raise UserError(f"ranks that {here.by} has started need one directory: give run_dir=DIR")
    config = pinned_config(read_or_compose(config_file, overrides))
    experiment = assemble(config, fitted_state_for(config))
    here.check(experiment.training.num_devices, experiment.training.num_nodes)
    directory = RunDirectory(run_dir or fresh_directory(config["name"]))
    if requeued() and directory.config.is_file():
        return resume.run([str(directory.path)])
    if not here.is_main:
        return start(experiment, directory)
    print(f"run directory: {directory.path}")
    print(summary(experiment), flush=True)
    code = begin(experiment, directory)
    if code == 0:
        print_results(directory)
        if config["hint"]:
            print(config["hint"])
    print(f"run directory: {directory.path}", flush=True)
    return code
