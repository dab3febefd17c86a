#!/usr/bin/env bash
# Everything that a loan of a GPU is for, in one go: tests, whole steps, their profile, the peers' steps,
# each op. What matters most comes first and every part has its own time, so a short loan is enough.
#
#   bash kernels/bench/gpu.sh
#
# Runs from a plain checkout with torch, Triton and numpy; nothing is installed. Settings, by environment:
#   OUT           folder for the CSV files and gpu.log; default kernels/bench/results
#   MINUTES       for all of it together; default 12
#   PYTHON        default python3
#   PEERS_PYTHON  a Python that has SAELens, dictionary_learning and sparsify; default PYTHON
#   BENCH_COMMIT  the commit to stamp on rows, where the checkout came without its history
#   TINY=1        the same path with tiny shapes, on a CPU too; its figures mean nothing
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=${OUT:-$root/kernels/bench/results}
python=${PYTHON:-python3}
tiny=${TINY:-}
total=$(awk -v m="${MINUTES:-12}" 'BEGIN { printf "%d", 60 * m }')
export PYTHONPATH="$root:$root/kernels${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
failed=()

left() { echo $((total - SECONDS)); }
share() { echo $((total * $1 / 100)); }

# part NAME SECONDS COMMAND...: run for at most so long (or what is left); Ctrl-C ends it in order.
part() {
    local name=$1 limit=$2 status
    shift 2
    if (($(left) < limit)); then limit=$(left); fi
    echo
    echo "== $name: at most $limit s of the $(left) s that are left"
    if ((limit < 10)); then
        failed+=("$name: no time left")
        return
    fi
    (cd "$root/kernels" && timeout -s INT -k 10 "$limit" "$@")
    status=$?
    if ((status == 124)); then failed+=("$name: stopped after $limit s; what it measured is on disk"); fi
    if ((status != 0 && status != 124)); then failed+=("$name: exit status $status"); fi
}

minutes() { awk -v s="$1" 'BEGIN { printf "%.2f", s / 60 }'; }

# An option of time that leaves a part some seconds to end by itself.
in_time() {
    local limit=$1
    if (($(left) < limit)); then limit=$(left); fi
    minutes $((limit > 40 ? limit - 20 : limit / 2))
}

tests() {
    if ! "$python" -c 'import pytest, hypothesis' 2>/dev/null; then
        echo "this Python has no pytest or no hypothesis: the tests are left out, and what stands in"
        echo "for them is that bench.run times nothing on which ours and eager disagree"
        return
    fi
    local options=(-q --confcutdir "$root/tests/kernels" -p no:cacheprovider)
    options+=(-o addopts=--import-mode=importlib --rootdir "$root" --maxfail 40 --tb short)
    if "$python" -c 'import xdist' 2>/dev/null && [[ $device == cuda ]]; then options+=(-n 8); fi
    if [[ $device == cuda ]]; then
        part "tests of the kernels on the GPU" "$(share 20)" \
            "$python" -m pytest "$root/tests/kernels" -m gpu "${options[@]}"
    else
        TRITON_INTERPRET=1 part "tests of a kernel in the interpreter" "$(share 20)" \
            "$python" -m pytest "$root/tests/kernels/test_prefix_decode.py" -k triton "${options[@]}"
    fi
}

main() {
    device=$("$python" -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")') || return 1
    if [[ $device == cpu && -z $tiny ]]; then
        echo "torch sees no GPU here. TINY=1 shows the same path on a CPU with tiny shapes."
        return 1
    fi
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm --format=csv,noheader || true
    fi
    local rows profile peers bench=() sizes=()
    rows=$(file_of "$out")
    profile=$(file_of "$out/profile")
    peers=$(file_of "$out/train_step")
    if [[ -n $tiny ]]; then
        bench+=(--shape 64,32,512,4 --repeats 3)
        sizes+=(--size 64 32 512 4 --rounds 2)
    fi
    tests
    part "whole steps" "$(share 25)" "$python" -m bench.run --only step_topk --only step_matryoshka \
        --out "$rows" --minutes "$(in_time "$(share 25)")" "${bench[@]}"
    part "kernels of a step" "$(share 8)" "$python" -m bench.run --profile "$profile" \
        --minutes "$(in_time "$(share 8)")" "${bench[@]}"
    part "the peers' steps" "$(share 25)" "$python" "$root/benchmarks/train_step.py" --device "$device" \
        --rows cuda --archs topk --rounds 10 --out "$peers" --minutes "$(in_time "$(share 25)")" \
        --peers-python "${PEERS_PYTHON:-$python}" "${sizes[@]}"
    local ops=()
    for name in $("$python" -c 'from bench.workloads import NAMES; print(*NAMES[1:])'); do
        if [[ $name != step_* ]]; then ops+=(--only "$name"); fi
    done
    part "each op" "$total" "$python" -m bench.run "${ops[@]}" --out "$rows" \
        --minutes "$(in_time "$total")" "${bench[@]}"
    echo
    echo "== done after $SECONDS s; everything is below $out"
    ls -l "$rows" "$profile" "$peers" 2>/dev/null
    if ((${#failed[@]})); then
        printf 'NOT AS IT SHOULD BE: %s\n' "${failed[@]}"
        return 1
    fi
}

# file_of FOLDER: the CSV file of this device there.
file_of() {
    "$python" - "$1" "$device" <<'EOF'
import sys
from pathlib import Path
import torch
from bench import record
print(record.default_path(torch.device(sys.argv[2]), Path(sys.argv[1]).absolute()))
EOF
}

mkdir -p "$out" && out=$(cd "$out" && pwd)
main 2>&1 | tee "$out/gpu.log"
exit "${PIPESTATUS[0]}"
