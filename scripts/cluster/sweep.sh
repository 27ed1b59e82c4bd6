#!/bin/bash
# A sweep within one allocation of a SLURM cluster: its GPUs are slots, as on any machine. Queued again after the time
# limit, it runs what is not done. (hydra/launcher=submitit_slurm is the other way: an allocation for each job.)
#
#   sbatch scripts/cluster/sweep.sh run_dir=/shared/sweep experiment=vit_digits optim.lr=1e-3,3e-3 seed=1,2
#
#SBATCH --job-name=mmtx-sweep
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@300
set -uo pipefail

mmtx train -m "$@" &
sweep=$!
trap 'kill -TERM "$sweep"' TERM USR1
wait "$sweep"
code=$?
while kill -0 "$sweep" 2>/dev/null; do
    wait "$sweep"
    code=$?
done
if [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
