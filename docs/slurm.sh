#!/bin/bash
# 8 machines with 8 GPUs each: DATA=/shared/folder sbatch slurm.sh; the same again goes on where it was stopped
#SBATCH --job-name=dcgan-eval
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=01:00:00
set -euo pipefail

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=8 # cores of a machine over its ranks

# the cache is on a file system that all machines share
srun --cpus-per-task "$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 torchrun \
  --nnodes "$SLURM_JOB_NUM_NODES" \
  --nproc-per-node "$SLURM_GPUS_PER_NODE" \
  --rdzv-id "$SLURM_JOB_ID" \
  --rdzv-backend c10d \
  --rdzv-endpoint "$first:29500" \
  -m dcgan_eval classify \
  --data "$DATA/imagenet32.npz" \
  --features "disc:$DATA/netD.safetensors" \
  --C 1e-3 \
  --cache "$DATA/features" \
  --results "$DATA/results.csv"
