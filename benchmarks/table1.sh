#!/usr/bin/env bash
# Table 1 from nothing: imagenet32 fitted to TRAIN, its discriminator rounded to 16 bits (9.2 MB), and the L2-SVM on the
# 28,672 features of labelled images that it was never trained on, with all labels and with 400 per class.
#
#     benchmarks/table1.sh TRAIN LABELLED OUT [flags of `python -m training imagenet32`, such as --epochs 30]
#
# The probe is run on the float32 weights and, with all labels, on the rounded ones: what rounding costs is in the rows.
# Started again with the same OUT, it goes on where it stopped. PYTHON names the interpreter; PER_CLASS, REPEATS the
# label draws.
set -euo pipefail
train=$1 labelled=$2 out=$3
shift 3
python=${PYTHON:-python}
here=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH=$here
mkdir -p "$out"

resume=$([ -e "$out/run/metrics.csv" ] && echo --resume || true) # a finished run resumes to itself
# shellcheck disable=SC2086
"$python" -m training imagenet32 --data "$train" --out "$out/run" $resume "$@"
for precision in float32 bfloat16; do
  "$python" -m dcgan_eval convert "$out/run/last.safetensors" "$out/imagenet32-$precision.safetensors" \
    --only discriminator --precision "$precision"
done

classify() { # NAME FEATURES FLAGS: a table, and its rows
  if [ ! -e "$out/$1.txt" ]; then
    "$python" -m dcgan_eval classify --data "$labelled" --results "$out/results.csv" --cache "$out/cache" \
      --features "$2" "${@:3}" >"$out/$1.partial"
    mv "$out/$1.partial" "$out/$1.txt"
  fi
  cat "$out/$1.txt"
}
few=(--protocol "per-class:${PER_CLASS:-400}" --draws "${REPEATS:-10}")
classify all-float32 "disc:$out/imagenet32-float32.safetensors"
classify few-float32 "disc:$out/imagenet32-float32.safetensors" "${few[@]}"
classify all-bfloat16 "disc:$out/imagenet32-bfloat16.safetensors"
classify all-random random:imagenet32
classify few-random random:imagenet32 "${few[@]}"
