#!/bin/bash
# One run on several machines: the same line on each, with a directory that all of them see.
#
#   NODE_RANK=0 NUM_NODES=2 DEVICES=8 MAIN=10.0.0.1 scripts/cluster/torchrun.sh run_dir=/shared/run experiment=...
#   NODE_RANK=1 NUM_NODES=2 DEVICES=8 MAIN=10.0.0.1 scripts/cluster/torchrun.sh run_dir=/shared/run experiment=...
set -euo pipefail
exec torchrun \
    --nnodes "${NUM_NODES:?how many machines}" \
    --node-rank "${NODE_RANK:?which of them this is, from 0}" \
    --nproc-per-node "${DEVICES:?devices of each machine}" \
    --master-addr "${MAIN:?address of machine 0}" \
    --master-port "${PORT:-29500}" \
    --no-python mmtx train "trainer.num_nodes=$NUM_NODES" "trainer.devices=$DEVICES" "$@"
