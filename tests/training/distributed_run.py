"""Runs that several processes must end as one does; started by `test_distributed_training.py` with torchrun.

    torchrun --nproc_per_node 2 distributed_run.py CHECKPOINT FOLDER

Every process writes what it ended with into the folder, one file for each case. The same cases run in the
test itself, in one process with batches as large as those of all processes together.
"""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers.util.distributed import distributed_evaluation
from torch import nn

from sentence_transformers import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
)
from sentence_transformers.cross_encoder import losses as cross_losses
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.models import Dense, Pooling, Router, Transformer
from sentence_transformers.training import loss_wiring

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tiny import WIDTH, sample_texts

BATCH = 8
"""Rows in a step, of all processes together."""


def pairs(count: int = 24) -> Dataset:
    texts = sample_texts()[:count]
    return Dataset.from_dict({"anchor": [text[: len(text) // 2] for text in texts], "positive": texts})


def classes() -> Dataset:
    return pairs().add_column("label", [row % 3 for row in range(24)])


def scored() -> Dataset:
    return pairs().add_column("score", [row % 5 / 4 for row in range(24)])


def lists() -> Dataset:
    """Queries with two documents or three, and how relevant each is."""
    texts = sample_texts()
    documents = [texts[row : row + 2 + row % 2] for row in range(24)]
    labels = [[float(place) for place in range(len(own))] for own in documents]
    return Dataset.from_dict({"query": texts[:24], "documents": documents, "labels": labels})


def scoring(checkpoint: Path) -> CrossEncoder:
    """A model of pairs; its head is made anew, the same in each process."""
    return CrossEncoder(str(checkpoint), num_labels=1, device="cpu")


def routed(checkpoint: Path) -> SentenceTransformer:
    """A model in which queries and documents take different ways."""
    routes = Router.for_query_document([Dense(WIDTH, 8)], [Dense(WIDTH, 8)])
    return SentenceTransformer(modules=[Transformer(str(checkpoint)), Pooling(WIDTH), routes], device="cpu")


def guided(loss: Any) -> Any:
    def made(model: Any) -> nn.Module:
        # Not random: every process, and the one by itself, must have the same guide.
        guide = copy.deepcopy(model).eval()
        return loss(model, guide, gather_across_devices=True)

    return made


GATHERED: dict[str, Any] = {
    "ranking": lambda model: losses.MultipleNegativesRankingLoss(model, gather_across_devices=True),
    "cached ranking": lambda model: losses.CachedMultipleNegativesRankingLoss(
        model, mini_batch_size=3, gather_across_devices=True
    ),
    "ranking at several widths": lambda model: losses.MatryoshkaLoss(
        model, losses.MultipleNegativesRankingLoss(model, gather_across_devices=True), [WIDTH, 8]
    ),
    "cached ranking at several widths": lambda model: losses.MatryoshkaLoss(
        model,
        losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=3, gather_across_devices=True),
        [WIDTH, 8],
    ),
    "symmetric ranking": lambda model: losses.MultipleNegativesSymmetricRankingLoss(
        model, gather_across_devices=True
    ),
    "cached symmetric ranking": lambda model: losses.CachedMultipleNegativesSymmetricRankingLoss(
        model, mini_batch_size=3, gather_across_devices=True
    ),
    "guided": guided(losses.GISTEmbedLoss),
    "cached guided": guided(losses.CachedGISTEmbedLoss),
}
"""Losses over the rows of all processes."""

CASES: dict[str, dict[str, Any]] = {
    **{name: {"data": pairs, "loss": loss} for name, loss in GATHERED.items()},
    "classifier": {
        "data": classes,
        "loss": lambda model: losses.SoftmaxLoss(model, WIDTH, 3),
    },
    "accumulated": {
        "data": pairs,
        "loss": GATHERED["ranking"],
        "settings": {"gradient_accumulation_steps": 2, "max_steps": 1},
    },
    "no duplicates": {
        "data": pairs,
        "loss": GATHERED["ranking"],
        "settings": {"batch_sampler": "no_duplicates"},
    },
    "several data sets": {
        "data": lambda: {"ranked": pairs(), "classified": classes()},
        "loss": lambda model: {
            "ranked": GATHERED["ranking"](model),
            "classified": losses.SoftmaxLoss(model, WIDTH, 3),
        },
        "settings": {"multi_dataset_batch_sampler": "round_robin", "max_steps": 4},
    },
    "streams": {
        "data": lambda: {"one": pairs().to_iterable_dataset(), "two": pairs(8).to_iterable_dataset()},
        "loss": GATHERED["ranking"],
        "settings": {"max_steps": 4},
    },
    "routes": {
        "data": pairs,
        "loss": GATHERED["ranking"],
        "model": routed,
        "settings": {"router_mapping": {"anchor": "query", "positive": "document"}},
    },
    "routes, cached": {
        "data": pairs,
        "loss": GATHERED["cached ranking"],
        "model": routed,
        "settings": {"router_mapping": {"anchor": "query", "positive": "document"}},
    },
    "recomputed": {
        "data": pairs,
        "loss": GATHERED["ranking"],
        "settings": {"activation_checkpointing": True},
    },
    "pairs with a score": {
        "data": scored,
        "loss": cross_losses.BinaryCrossEntropyLoss,
        "model": scoring,
        "settings": {"prompts": "Find: "},
    },
    "cached pairs with a score of lists": {
        "data": lists,
        "loss": lambda model: cross_losses.ListNetLoss(model, mini_batch_size=3),
        "model": scoring,
    },
    "another loss": {"data": classes, "loss": lambda model: Foreign(model)},
    "evaluated": {
        "data": pairs,
        "loss": GATHERED["ranking"],
        "settings": {
            "eval_strategy": "steps",
            "eval_steps": 1,
            "save_strategy": "steps",
            "save_steps": 1,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_dev_spearman_cosine",
        },
        "evaluated": True,
    },
}


class Foreign(nn.Module):
    """A loss that knows nothing of ours."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, sentence_features: Any, labels: Any) -> Any:
        first, second = (self.model(dict(features))["sentence_embedding"] for features in sentence_features)
        return nn.functional.cross_entropy(self.head(first - second), labels)


class Counted:
    """An evaluator that counts its calls."""

    def __init__(self) -> None:
        data = pairs(12)
        scores = [row % 4 for row in range(12)]
        self.evaluator = EmbeddingSimilarityEvaluator(
            data["anchor"][:], data["positive"][:], scores, name="dev"
        )
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self.evaluator(*args, **kwargs)

    @property
    def primary_metric(self) -> Any:
        return self.evaluator.primary_metric

    @primary_metric.setter
    def primary_metric(self, value: Any) -> None:
        self.evaluator.primary_metric = value


def without_dropout(model: Any) -> Any:
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if hasattr(part, "dropout_prob"):
            part.dropout_prob = 0.0
    return model


def ended(case: str, checkpoint: Path, folder: Path, processes: int) -> dict[str, Any]:
    """Train a case, and say what came of it."""
    settings = CASES[case]
    torch.manual_seed(0)
    model = settings.get("model", lambda path: SentenceTransformer(str(path), device="cpu"))(checkpoint)
    without_dropout(model)
    # Each process would make another classifier; they must all get that of the first one.
    torch.manual_seed(int(os.environ.get("RANK", "0")))
    trainer_of, arguments_of = (
        (CrossEncoderTrainer, CrossEncoderTrainingArguments)
        if isinstance(model, CrossEncoder)
        else (SentenceTransformerTrainer, SentenceTransformerTrainingArguments)
    )
    args = arguments_of(
        output_dir=str(folder / f"{case} of {processes}"),
        per_device_train_batch_size=BATCH // processes,
        **{
            "max_steps": 2,
            "learning_rate": 0.1,
            "lr_scheduler_type": "constant",
            "optim": "sgd",
            "max_grad_norm": 0,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
            **settings.get("settings", {}),
        },
    )
    evaluator = Counted() if settings.get("evaluated") else None
    trainer = trainer_of(model, args, settings["data"](), loss=settings["loss"](model), evaluator=evaluator)
    trainer.train()
    return {
        "model": {name: value.clone() for name, value in model.state_dict().items()},
        "loss": {name: value.clone() for name, value in loss_wiring.saved_state(trainer.loss).items()},
        "log": trainer.state.log_history,
        "best": trainer.state.best_model_checkpoint,
        "evaluations": evaluator.calls if evaluator else 0,
        "metric": getattr(evaluator, "primary_metric", None),
    }


def shared(checkpoint: Path) -> dict[str, Any]:
    """What an evaluation gives that is shared by the processes, and how it fails."""
    model = SentenceTransformer(str(checkpoint), device="cpu")
    texts = sample_texts()[:7]
    found: dict[str, Any] = {}
    calls: list[int] = []
    model.register_forward_hook(lambda module, inputs, outputs: calls.append(len(calls)))
    with distributed_evaluation(model) as evaluates:
        found["evaluates"] = evaluates
        if evaluates:
            found["embeddings"] = model.encode(texts)
            found["tensors"] = model.encode(texts, convert_to_tensor=True, normalize_embeddings=True)
            found["tokens"] = model.encode(texts, output_value="token_embeddings")
            found["single"] = model.encode(texts[0])
            found["wrong"] = str(error_of(lambda: model.encode([*texts, 1.5])))
    found["calls"] = len(calls)
    with distributed_evaluation(model, enabled=False) as evaluates:
        found["by itself"] = evaluates

    def failing() -> None:
        with distributed_evaluation(model) as evaluates:
            if evaluates:
                raise KeyError("a metric")

    found["error"] = repr(error_of(failing))
    return found


def error_of(function: Any) -> Exception | None:
    try:
        function()
    except Exception as error:
        return error
    return None


def spread(checkpoint: Path, folder: Path) -> dict[str, Any]:
    """Gradients, embeddings and files of a model whose weights are spread over the processes (FSDP2)."""
    from torch.distributed.fsdp import fully_shard

    rank, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
    mesh = torch.distributed.init_device_mesh("cpu", (processes,))
    mine = slice(rank * BATCH // processes, (rank + 1) * BATCH // processes)
    found: dict[str, Any] = {}
    for name in ("ranking", "cached ranking"):
        model = without_dropout(SentenceTransformer(str(checkpoint), device="cpu")).train()
        for layer in model[0].auto_model.encoder.layer:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        data = pairs(BATCH)[mine]
        GATHERED[name](model)([model.preprocess(data[column]) for column in data]).backward()
        found[name] = {
            key: parameter.grad.full_tensor()
            for key, parameter in model.named_parameters()
            if parameter.grad is not None
        }
    model.eval()
    found["embeddings"] = model.encode(sample_texts()[:3])
    state = loss_wiring.collected_state(model)
    if rank == 0:
        loss_wiring.save_with_state(model, str(folder / "spread"), state)
    torch.distributed.barrier()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0)
    loss_wiring.load_weights(model, str(folder / "spread"))
    found["embeddings again"] = model.encode(sample_texts()[:3])
    return found


def main() -> None:
    checkpoint, folder = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    for case in CASES if len(sys.argv) < 4 else sys.argv[3:]:
        torch.save(
            ended(case, checkpoint, folder, int(os.environ["WORLD_SIZE"])), folder / f"{case} {rank}.pt"
        )
    if len(sys.argv) < 4:
        torch.save(spread(checkpoint, folder), folder / f"spread {rank}.pt")
        torch.save(shared(checkpoint), folder / f"shared {rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
