"""`optimize`, for a model of any kind: what it is asked, checked at the door.

How ways are tried and one is chosen stands in `choosing.py`, which ways there are in `ways.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from sentence_transformers.inference.options import DEFAULT_BATCH_SIZE

if TYPE_CHECKING:
    from sentence_transformers.encoder.choosing import Optimized


class OptimizingMixin:
    """Finds the fastest way to run a model."""

    # What a model has.
    device: Any
    get_backend: Callable[[], str]

    def compile(self, **options: Any) -> Self:
        """Let `torch.compile` make the code that runs the transformer in `encode` or `predict`.

        Each new shape of a batch is compiled for seconds to minutes, so batches are padded up to few shapes (rows to
        a power of two, tokens to a multiple of 8 or more), and results stay the same within rounding. It is not worth
        it for models of the usual encoders on a CPU, whose own forward here computes no padding and is faster; where
        it might be (on a GPU, for single texts, with `mode="reduce-overhead"`), try: `optimize` has a way "compiled".
        `torch.compile(model)` never reaches `encode`. While training nothing changes, and nothing of it is saved.

        Args:
            **options: For `torch.compile`, such as `mode`, `backend` or `fullgraph`.

        Returns:
            The model itself.

        Raises:
            ValueError: If the model has no transformer run by torch with an encoder.
            RuntimeError: If there is no C++ compiler, which torch needs on a CPU.
        """
        from sentence_transformers.encoder.ways import compile_transformers

        compile_transformers(self, options)
        return self

    def optimize(
        self,
        texts: Sequence[Any],
        target: str | None = None,
        *,
        least_similarity: float | None = 0.98,
        evaluator: Callable[[Any], Any] | None = None,
        least_score_kept: float | None = None,
        ways: Sequence[str] | None = None,
        fastest_at: str = "throughput",
        folder: str | Path | None = None,
        rounds: int = 3,
        batch_size: int = DEFAULT_BATCH_SIZE,
        prompt_name: str | None = None,
        prompt: str | None = None,
        show_table: bool = True,
    ) -> Optimized:
        """Run the model in every way there is, on your own texts, and take the fastest that stays near enough to it.

        Each way is measured beside float32, in turns: all texts at once, and some of them one at a time. What is not
        installed, or what this machine cannot do, is listed with the reason. This model and its folder stay as
        they are.

        Args:
            texts: Texts like those the model will read, some hundred to a few thousand; pairs for a `CrossEncoder`.
            target: "cpu", "gpu", or a device such as "cuda:1"; None for where the model is.
            least_similarity: What a way must reach: the mean over the texts of the cosine of its vectors and
                float32's; of a cross-encoder the correlation of its scores and float32's. None for any.
            evaluator: Any evaluator, or another function of a model that returns a score; its main score is reported
                for each way. Where its score is only one of several, `primary_metric` must say which.
            least_score_kept: The share of float32's score that a way must keep, such as 0.995; None for any.
            ways: Names of the ways to try: "float32", "float16", "bfloat16", "int8", "compiled", "onnx", "onnx-O3",
                "onnx-O4", "onnx-int8", "openvino" and "openvino-int8". None for those that may be worth it on the
                target ("compiled", which takes minutes, on a GPU only).
            fastest_at: "throughput" for many texts at once, or "latency" for one at a time.
            folder: Where to save the chosen model: a new or empty folder. Without one nothing is saved, and a chosen
                graph lies in a temporary folder that goes with the model.
            rounds: How often each way is measured; the median counts.
            batch_size: As in `encode` and `predict`.
            prompt_name: The same.
            prompt: The same.
            show_table: Whether to print what was found.

        Returns:
            What was found: the chosen `model`, ready to use and with weights of its own; its `way`; a row of figures
            for each way in `rows`; all of it as text by `table()`; and `load_options`, with which the saved model
            is loaded. float32 is chosen unless a way is at least 5 % faster.

        Raises:
            ValueError: If an argument makes no sense, or the model is a graph already.
            RuntimeError: If there is no device for the target.

        Example:
            >>> best = model.optimize(texts, "cpu", least_similarity=0.99, folder="fast-model")  # doctest: +SKIP
            >>> best.way  # doctest: +SKIP
            'onnx-int8'
            >>> embeddings = best.model.encode(texts)  # doctest: +SKIP
            >>> model = SentenceTransformer("fast-model", **best.load_options)  # doctest: +SKIP
        """
        from sentence_transformers.encoder.choosing import Wishes, choose

        wishes = Wishes(
            target=target,
            least_similarity=least_similarity,
            evaluator=evaluator,
            least_score_kept=least_score_kept,
            ways=ways,
            fastest_at=fastest_at,
            folder=None if folder is None else Path(folder),
            rounds=rounds,
            calls={"batch_size": batch_size, "prompt_name": prompt_name, "prompt": prompt},
        )
        found = choose(self, texts, wishes)
        if show_table:
            print(found.table())
        return found
