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
step() { # NAME COMMAND...
  local name=$1
  shift
  echo "== $name: $*"
  timeout 280 "$@" > "$out/$name.log" 2>&1 || { failed=1; echo "failed ($?)"; }
  tail -n 30 "$out/$name.log"
}
for graphs in 0 1; do
  export ATTNREC_CUDA_GRAPHS=$graphs
  step "tests-$graphs" python -m pytest -q -m cuda -p no:cacheprovider
  step "train-$graphs" python tests/bench/bench_train.py --device cuda --bf16 --rounds 5
  step "extract-$graphs" python tests/bench/bench_extract.py --device cuda --repeat 8 --rounds 1
done
exit $failed
