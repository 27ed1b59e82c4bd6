#!/bin/bash
# One run on several machines of a SLURM cluster. Five minutes before the time limit, or when it is pre-empted, it saves,
# is queued again, and goes on where it was. Change the sizes here or on the command line of sbatch:
#
#   sbatch --nodes=4 scripts/cluster/slurm.sh run_dir=/shared/run experiment=...
#
#SBATCH --job-name=mmtx
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300
set -uo pipefail

run_dir=
for word in "$@"; do
    case $word in run_dir=*) run_dir=${word#run_dir=} ;; esac
done
: "${run_dir:?give run_dir=DIR, in a file system that all machines see}"

if [ -e "$run_dir/status.json" ]; then
    command=(mmtx resume "$run_dir")
else
    command=(mmtx train "trainer.num_nodes=$SLURM_NNODES" "trainer.devices=$SLURM_NTASKS_PER_NODE" "$@")
fi

again=no
save() { # the ranks, not srun: it would end them without waiting
    again=yes
    scancel --signal=TERM "$SLURM_JOB_ID.0"
}
trap save USR1 TERM

srun "${command[@]}" &
step=$!
wait "$step"
code=$?
while kill -0 "$step" 2>/dev/null; do # a signal ends `wait`, not the ranks
    wait "$step"
    code=$?
done
if [ "$again" = yes ] && [ "$code" -ne 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
