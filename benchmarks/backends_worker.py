"""The measured side of `backends.py`: one way to run a model, in a process of its own.

A way is this project or the reference with a backend, or a few lines around ONNX Runtime or OpenVINO. All answer
the commands of `worker.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import worker

BATCH_SIZE = 32

HINT, HINTS = "INFERENCE_PRECISION_HINT", {"float32": "f32", "bfloat16": "bf16"}
"""How OpenVINO is told what to compute with."""


def load_way(
    folder: str,
    how: str,
    backend: str = "torch",
    file_name: str | None = None,
    precision: str | None = None,
    dtype: str | None = None,
) -> dict[str, Any]:
    """Load a model in one of the ways."""
    if how == "library":
        from sentence_transformers import SentenceTransformer

        kwargs: dict[str, Any] = {"file_name": file_name} if file_name else {}
        if dtype is not None:
            kwargs |= {"dtype": dtype} if backend == "torch" else {"ov_config": {HINT: HINTS[dtype]}}
        options: dict[str, Any] = {"backend": backend, "model_kwargs": kwargs}
        worker.model = SentenceTransformer(folder, device="cpu", **options)
        if precision is not None:
            worker.model.quantize(precision)
    else:
        worker.model = PlainModel(Path(folder), how, str(file_name), dtype or "float32")
    return {}


class PlainModel:
    """A graph as one would call it by hand.

    Args:
        folder: The model's folder, with its tokenizer.
        how: "onnxruntime" or "openvino".
        file_name: The graph in it.
        dtype: "float32", or "bfloat16", which OpenVINO takes by itself where the processor has it.
    """

    def __init__(self, folder: Path, how: str, file_name: str, dtype: str) -> None:
        import torch
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(256)
        self.tokenizer.enable_padding()
        threads = torch.get_num_threads()
        if how == "onnxruntime":
            import onnxruntime

            settings = onnxruntime.SessionOptions()
            settings.intra_op_num_threads = threads
            session = onnxruntime.InferenceSession(
                str(folder / file_name), settings, providers=["CPUExecutionProvider"]
            )
            self.names = [one.name for one in session.get_inputs()]
            self.compute = lambda inputs: session.run(None, inputs)[0]
        else:
            import openvino

            compiled = openvino.Core().compile_model(
                str(folder / file_name), "CPU", {"INFERENCE_NUM_THREADS": threads, HINT: HINTS[dtype]}
            )
            request = compiled.create_infer_request()
            self.names = [port.get_any_name() for port in compiled.inputs]
            self.compute = lambda inputs: request.infer(inputs)[compiled.outputs[0]]

    def encode(self, texts: str | list[str], show_progress_bar: bool = False) -> np.ndarray:
        """Vectors of the texts, normalised means of their tokens."""
        rows = [texts] if isinstance(texts, str) else texts
        batches = [self.encode_batch(rows[at : at + BATCH_SIZE]) for at in range(0, len(rows), BATCH_SIZE)]
        return np.concatenate(batches)

    def encode_batch(self, texts: list[str]) -> np.ndarray:
        found = self.tokenizer.encode_batch(texts)
        arrays = {
            "input_ids": np.array([row.ids for row in found], dtype=np.int64),
            "attention_mask": np.array([row.attention_mask for row in found], dtype=np.int64),
            "token_type_ids": np.array([row.type_ids for row in found], dtype=np.int64),
        }
        states = self.compute({name: arrays[name] for name in self.names})
        mask = arrays["attention_mask"][..., None].astype(np.float32)
        means = (states * mask).sum(axis=1) / mask.sum(axis=1)
        return means / np.linalg.norm(means, axis=1, keepdims=True)


def count_tokens(texts: list[str]) -> dict[str, Any]:
    """Tokens of each text, as every model here counts them."""
    tokenizer = worker.model.tokenizer
    if isinstance(worker.model, PlainModel):
        return {"lengths": [sum(row.attention_mask) for row in tokenizer.encode_batch(texts)]}
    return worker.count_tokens(texts)


worker.COMMANDS |= {"load_way": load_way, "count_tokens": count_tokens}

if __name__ == "__main__":
    worker.main()
