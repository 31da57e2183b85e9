"""A program that is killed while it encodes to disk, again and again, and then let finish.

    python killed_runs.py MODEL FOLDER FORMAT KILLS SEED

Writes `whole` in one go, and `resumed` with so many kills at random moments, each in a process of its own.
Prints, as JSON, after how many rows each run found itself when it began.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path


def main(model_folder, folder, format, kills, seed):
    import torch

    from sentence_transformers import SentenceTransformer
    from sentence_transformers.inference.to_disk import record_of
    from tiny import sample_texts

    torch.set_num_threads(1)
    model = SentenceTransformer(model_folder, device="cpu")
    ending = ".npy" if format == "npy" else ""
    whole, resumed = (Path(folder) / name / f"out{ending}" for name in ("whole", "resumed"))

    def encode(path, told):
        texts = (f"{text[: 20 + number % 90]} {number}" for number in range(18) for text in sample_texts())
        ids = (f"id {row}" for row in range(900))
        model.encode_to(
            path, texts, ids=ids, rows_per_shard=60, on_progress=lambda progress: os.write(told, b".")
        )

    def start(path):
        """A process that encodes, and a pipe with one byte for each of its steps."""
        steps, told = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(steps)
            encode(path, told)
            os._exit(0)
        os.close(told)
        return child, steps

    def finish(path):
        child, steps = start(path)
        while os.read(steps, 4096):
            pass
        os.close(steps)
        assert os.waitpid(child, 0)[1] == 0

    finish(whole)
    moments = random.Random(seed)
    found = []
    for _ in range(kills):
        record = record_of(resumed)
        found.append(record.rows if record is not None else 0)
        child, steps = start(resumed)
        for _ in range(moments.randrange(14)):
            os.read(steps, 1)
        time.sleep(moments.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(steps)
    record = record_of(resumed)
    found.append(record.rows if record is not None else 0)
    finish(resumed)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
