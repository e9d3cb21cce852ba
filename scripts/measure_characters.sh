#!/usr/bin/env bash
# The figures of docs/experiments.md, from the models that ship: arms A (base with the character's prompt), B (with its
# adapter) and C (the whole graph) on every set of every character, and a conversation of 20 turns in each arm.
# Usage: [ARMS="A B C"] [LIMIT=100] scripts/measure_characters.sh [FOLDER]; LIMIT: the first so many items of each set.
# Ports 8000 and 8001 must be free. About an hour on two cores, most of it arm C's questions on documents.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
out=${1:-outputs/experiments}
arms=${ARMS:-A B C}
characters=(haneul mir kelron hotaru)
run() { echo "+ $*" >&2; "$@"; }

measure() { # arm, extra options of `artistmind eval`
  local arm=$1; shift
  for character in "${characters[@]}"; do
    local options=("$@") folder="$out/$character-$arm"
    [ "$arm" = B ] && options+=(--model "$character")
    run artistmind eval all --character "$character" --arm "$arm" --concurrency 8 --out "$folder" \
      ${LIMIT:+--limit "$LIMIT"} "${options[@]}"
    run artistmind eval transcript --character "$character" --arm "$arm" "${options[@]}" \
      --turns "evaluation/conversations/$character.txt" --out "$folder/transcript.md"
  done
}

bare_server() { # the engine settings of serve_local.yaml, nothing around them
  local modules=()
  for folder in models/adapters/*/; do modules+=("$(basename "$folder")=$(ls -d "$folder"v* | tail -1)"); done
  VLLM_CPU_KVCACHE_SPACE=1 VLLM_NO_USAGE_STATS=1 VLLM_LOGGING_LEVEL=WARNING \
    python -m vllm.entrypoints.openai.api_server --host 127.0.0.1 --port 8001 --model models/base \
    --served-model-name base --dtype bfloat16 --max-model-len 1536 --no-enable-chunked-prefill \
    --max-num-batched-tokens 2048 --gpu-memory-utilization 0.2 --enable-lora --max-loras 4 --max-lora-rank 16 \
    --lora-modules "${modules[@]}" --disable-uvicorn-access-log >"$out/bare.log" 2>&1 &
  bare=$!
  for _ in $(seq 150); do
    curl -sf http://127.0.0.1:8001/health >/dev/null && return
    kill -0 $bare || { tail -5 "$out/bare.log" >&2; exit 1; }
    sleep 2
  done
  echo "the bare server did not start, see $out/bare.log" >&2
  exit 1
}

ended() { # nothing that was started here is left behind
  [ -z "${bare:-}" ] || kill "$bare" 2>/dev/null || true
  [ -z "${graph:-}" ] || artistmind down
}
trap ended EXIT

mkdir -p "$out"
if [[ $arms == *C* ]]; then
  graph=up
  run artistmind up
  measure C
  run artistmind down
  graph=
fi
if [[ $arms == *[AB]* ]]; then bare_server; fi
if [[ $arms == *A* ]]; then measure A --endpoint http://127.0.0.1:8001/v1 --model base; fi
if [[ $arms == *B* ]]; then measure B --endpoint http://127.0.0.1:8001/v1; fi
for character in "${characters[@]}"; do
  reports=()
  for arm in A B C; do
    if [ -f "$out/$character-$arm/report.json" ]; then reports+=("$out/$character-$arm/report.json"); fi
  done
  if (( ${#reports[@]} > 1 )); then run artistmind eval compare "${reports[@]}" --out "$out/$character.md"; fi
done
