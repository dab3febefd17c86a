"""Time SAELens' CacheActivationsRunner once; run by benchmarks/harvest.py with another Python.

    python saelens_harvest.py MODEL_DIR HOOK TOKENS_JSON BATCH_SIZE D_IN DTYPE THREADS

TOKENS_JSON holds a list of sequences of one length. Prints {"seconds": ..., "tokens": ...,
"peak_bytes": ...}: the run of the runner alone, after the model is loaded, and one short run before
it to warm up; the peak above what the process held before, null where the system does not tell.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from peak import peak_bytes
from sae_lens import CacheActivationsRunner, CacheActivationsRunnerConfig


def measure(
    model: str, hook: str, rows: list[list[int]], batch: int, d_in: int, dtype: str
) -> dict[str, float | None]:
    """Seconds and memory that caching the sequences' activations takes, and tokens it wrote."""
    n_bytes = len(rows) * len(rows[0]) * d_in * getattr(torch, dtype).itemsize
    with tempfile.TemporaryDirectory() as folder:
        runner = CacheActivationsRunner(
            CacheActivationsRunnerConfig(
                dataset_path="in-memory",
                model_name=model,
                model_class_name="AutoModelForCausalLM",
                model_batch_size=batch,
                hook_name=hook,
                d_in=d_in,
                context_size=len(rows[0]),
                training_tokens=len(rows) * len(rows[0]),
                new_cached_activations_path=f"{folder}/acts",
                shuffle=False,
                dtype=dtype,
                device="cpu",
                prepend_bos=False,
                buffer_size_gb=n_bytes / 1e9,  # it always writes whole buffers
                streaming=False,
            ),
            override_dataset=Dataset.from_dict({"input_ids": rows}),
        )
        written: list[int] = []
        begun = time.perf_counter()
        peak = peak_bytes(lambda: written.append(len(runner.run()) * len(rows[0])))
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "tokens": written[0], "peak_bytes": peak}


def main() -> None:
    """Warm up on one batch, then time all."""
    model, hook, path, batch, d_in, dtype, threads = sys.argv[1:]
    rows = json.loads(Path(path).read_text())
    torch.set_num_threads(int(threads))
    settings = (int(batch), int(d_in), dtype)
    measure(model, hook, rows[: int(batch)], *settings)
    print(json.dumps(measure(model, hook, rows, *settings)))


if __name__ == "__main__":
    main()
