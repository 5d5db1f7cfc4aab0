#!/usr/bin/env bash
# What a machine with a GPU has to show: tests, benchmarks and a whole extraction, without and with CUDA graphs.
#
#     tests/bench/on_device.sh [OUT]
#
# Run from the root of the project. Where imageio-ffmpeg is missing, put its binary's path into IMAGEIO_FFMPEG_EXE, or
# the binary as ffmpeg.xz beside pyproject.toml. OUT is a folder for the logs, `on_device` by default.
set -uo pipefail
out=${1:-on_device}
mkdir -p "$out"
export PYTHONPATH=src OMP_WAIT_POLICY=PASSIVE
if [ -f ffmpeg.xz ]; then
  xz --decompress --stdout ffmpeg.xz > "$out/ffmpeg" && chmod +x "$out/ffmpeg"
  export IMAGEIO_FFMPEG_EXE=$PWD/$out/ffmpeg
fi
failed=0
step() { # NAME SECONDS COMMAND...
  local name=$1 most=$2
  shift 2
  echo "== $name: $*"
  timeout "$most" "$@" > "$out/$name.log" 2>&1 || { failed=1; echo "failed ($?)"; }
  tail -n 40 "$out/$name.log"
}
end_to_end() { # extraction, two trainings, evaluation and a picture, as a user would
  local data=${ATTNREC_TEST_DATA:-../shared/data} here=$out/work
  rm -rf "$here" && mkdir -p "$here"
  python -m attnrec info
  python -m attnrec extract "$data/weizmann4" "$here/features.h5" --backbone bvlc_googlenet \
    --weights "$data/weights/bvlc_googlenet.pth" --device cuda || return 1
  for model in attention avg-pool; do
    python -m attnrec train "$here/features.h5" --runs "$here/runs" --device cuda --model "$model" || return 1
    python -m attnrec evaluate --runs "$here/runs" --device cuda || return 1
  done
  python -m attnrec visualize "$(find "$data/weizmann4" -name '*.mp4' | sort | head -n 1)" --runs "$here/runs" \
    --device cuda --out "$out/where.gif" || return 1
  rm -rf "$here"
}
export -f end_to_end
export out
for graphs in 0 1; do
  export ATTNREC_CUDA_GRAPHS=$graphs
  step "tests-$graphs" 200 python -m pytest -q -m cuda -p no:cacheprovider
  step "chain-$graphs" 120 bash -c end_to_end
  # The second time overwrites the tables of the first, which stay in the logs.
  step "train-$graphs" 280 python tests/bench/bench_train.py --device cuda --bf16 --rounds 5 --write
  step "extract-$graphs" 280 python tests/bench/bench_extract.py --device cuda --repeat 8 --rounds 1 --write
done
cp README.md src/attnrec/guide/speed.md "$out"
exit $failed
