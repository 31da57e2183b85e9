"""A query generator: a model that reads a passage and writes the questions it answers.

Nogueira, Yang, Lin, Cho (2019), "Document Expansion by Query Prediction", https://arxiv.org/abs/1904.08375: learned
from pairs of a query and its passage. What it writes is what `genq` and `gpl` train on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sentence_transformers.recipes.config import OptimizedConfig, option
from sentence_transformers.recipes.generation import meaning
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import MODEL, only_run
from sentence_transformers.recipes.tables import read_rows, some_of
from sentence_transformers.recipes.text_writers import (
    Sampling,
    Writer,
    freeze,
    number_of,
    texts_about,
    writer_named,
    writer_to_train,
)
from sentence_transformers.recipes.training import CURVE, LOGS
from sentence_transformers.storage.durable import rename
from sentence_transformers.storage.folder import write_json, write_text

SAMPLES, STATE = "samples.jsonl", "state.pt"
SHOWN = 200
"""Held-out passages of which a query is written, to be compared with the real one."""
NO_LABEL = -100
"""What the cross entropy passes over."""


@dataclass(kw_only=True)
class Config(OptimizedConfig):
    """What training a query generator is told."""

    pairs: Path = option(help="A table with a query and its passage in each row.")
    model: str = option(
        "all-MiniLM-L6-v2",
        help="An encoder-decoder to train on, or an encoder that both halves are made from.",
    )
    query_column: str | None = option(None, help="Column of the queries; the first one if none is given.")
    passage_column: str | None = option(None, help="Column of the passages; the second one if none is given.")
    encoder_layers: int = option(2, help="Of a generator made from an encoder: layers that read.", least=1)
    decoder_layers: int = option(2, help="Of a generator made from an encoder: layers that write.", least=1)
    frozen: Literal["nothing", "embeddings", "encoder"] = option(
        "embeddings", help="What is not trained. Fewer pairs teach more when it is more."
    )
    held_out: int = option(300, help="Pairs to judge by, drawn at random and not trained on.", least=1)
    max_query_tokens: int = option(32, help="Tokens of a query.", least=2)
    max_length: int | None = option(128, help="Tokens of a passage.", least=2)
    batch_size: int = option(16, help="Rows in a batch.", least=1)
    learning_rate: float = option(5e-4, help="Highest learning rate.", least=0)


@dataclass(frozen=True)
class Pair:
    """A query and the passage that answers it."""

    query: str
    passage: str


def run(config: Config) -> Report:
    """Train a model that reads a passage and writes the queries it answers, for genq and gpl."""
    rows = read_pairs(config)
    held_out = some_of(rows, config.held_out, config.seed)
    known = {pair.query for pair in held_out}
    training = some_of([pair for pair in rows if pair.query not in known], config.limit, config.seed)
    if not training:
        raise ValueError(f"held_out={config.held_out} of {len(rows)} pairs leaves none to train on.")

    with only_run("query-generator", config) as run:
        run.measure("start", lambda: judged(new_writer(config), held_out, config))
        folder = run.step("training", lambda place: train(place, training, config), goes_on=True)

        def finished() -> Writer:
            return writer_named(str(folder / MODEL), config.device)

        samples = run.step("samples", lambda place: write_samples(place, finished(), held_out, config))
        run.measure(
            "query generator",
            lambda: {**judged(finished(), held_out, config), "shared words": shared_words(samples / SAMPLES)},
        )
        return run.finish(Finished(finished(), config))


def read_pairs(config: Config) -> list[Pair]:
    """The pairs of the table, each once; those with an empty side are left out."""
    rows = read_rows(config.pairs)
    names = list(rows[0])
    query = config.query_column or names[0]
    passage = config.passage_column or next((name for name in names if name != query), "")
    for name in (query, passage):
        if name not in names:
            raise ValueError(f"{config.pairs} has no column {name!r}. It has {', '.join(map(repr, names))}.")
    pairs = [Pair(str(row[query] or "").strip(), str(row[passage] or "").strip()) for row in rows]
    return list(dict.fromkeys(pair for pair in pairs if pair.query and pair.passage))


def new_writer(config: Config) -> Writer:
    """The model before training; the same for the same seed."""
    import transformers

    transformers.set_seed(config.seed)
    return writer_to_train(
        config.model, config, encoder_layers=config.encoder_layers, decoder_layers=config.decoder_layers
    )


def train(folder: Path, pairs: Sequence[Pair], config: Config) -> None:
    """Train a new model into the folder, or go on with what is in it.

    Everything drawn at random is drawn from the number of the step, so a step is the same in a process that
    begins with it.
    """
    from tqdm.auto import tqdm

    writer = new_writer(config)
    model = writer.model.train()
    freeze(model, config.frozen)
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=config.learning_rate, weight_decay=0.0)
    per_epoch = math.ceil(len(pairs) / config.batch_size)
    steps = max(1, math.ceil(config.epochs * per_epoch))
    every = max(1, steps // LOGS)
    step, total, curve = 0, 0.0, list[dict[str, float]]()
    if (folder / STATE).is_file():
        state = torch.load(folder / STATE, map_location=model.device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, total, curve = state["step"], state["total"], state["curve"]
    progress = tqdm(total=steps, initial=step, disable=config.quiet, desc="Training")
    while step < steps:
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng((config.seed, epoch)).permutation(len(pairs))
        rows = order[place * config.batch_size : (place + 1) * config.batch_size]
        torch.manual_seed(number_of((config.seed, step)))
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * share_of_rate(step, steps, config.warmup_ratio)
        loss = sum_of_losses(writer, [pairs[row] for row in rows], config, mean=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step, total = step + 1, total + loss.item()
        progress.update()
        if step % every == 0 or step == steps:
            since = (step - 1) % every + 1
            curve.append({"step": step, "epoch": round(step / per_epoch, 4), "loss": round(total / since, 4)})
            total = 0.0
        if step % config.save_steps == 0 and step < steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step, "total": total, "curve": curve}, folder / (STATE + ".tmp"))
            rename(folder / (STATE + ".tmp"), folder / STATE)
    progress.close()
    save(writer, folder / MODEL)
    write_json(folder / CURVE, curve)
    (folder / STATE).unlink(missing_ok=True)


def share_of_rate(step: int, steps: int, warmup_ratio: float) -> float:
    """Share of the highest learning rate: rising in a straight line, then falling to nothing."""
    rising = math.ceil(steps * min(warmup_ratio, 1.0))
    return (step + 1) / rising if step < rising else (steps - step) / max(1, steps - rising)


def sum_of_losses(writer: Writer, pairs: Sequence[Pair], config: Config, *, mean: bool = False) -> Tensor:
    """Cross entropy of the tokens of the queries, given their passages: the sum, or the mean of a token."""
    tokenizer, model = writer.tokenizer, writer.model
    inputs = tokenizer(
        [pair.passage for pair in pairs],
        padding=True,
        truncation=True,
        max_length=config.max_length or None,
        return_tensors="pt",
        return_token_type_ids=False,
    ).to(model.device)
    labels = labels_of(writer, [pair.query for pair in pairs], config.max_query_tokens).to(model.device)
    # Each token is written after the ones before it; behind the end it does not matter what stands there.
    before = labels.roll(1, dims=1).masked_fill(labels.roll(1, dims=1) == NO_LABEL, tokenizer.pad_token_id)
    before[:, 0] = model.config.decoder_start_token_id
    logits = model(**inputs, decoder_input_ids=before).logits  # (B, T, V)
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(),
        labels.flatten(),
        ignore_index=NO_LABEL,
        reduction="mean" if mean else "sum",
    )


def labels_of(writer: Writer, queries: Sequence[str], max_tokens: int) -> Tensor:
    """The tokens that are to be written, (B, T), with `NO_LABEL` behind their end."""
    tokenizer, config = writer.tokenizer, writer.model.config
    rows = tokenizer(text_target=list(queries), truncation=True, max_length=max_tokens).input_ids
    # The first token that a decoder is given is not written by it.
    rows = [row[1:] if row[0] == config.decoder_start_token_id else row for row in rows]
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [NO_LABEL] * (longest - len(row)) for row in rows])


def judged(writer: Writer, pairs: Sequence[Pair], config: Config) -> dict[str, float]:
    """How well a model foresees queries that it has not seen."""
    writer.model.eval()
    total, tokens = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(pairs), config.batch_size):
            batch = pairs[start : start + config.batch_size]
            total += sum_of_losses(writer, batch, config).item()
            labels = labels_of(writer, [pair.query for pair in batch], config.max_query_tokens)
            tokens += int((labels != NO_LABEL).sum())
    loss = total / max(1, tokens)
    return {"held-out loss": round(loss, 4), "held-out perplexity": round(math.exp(min(loss, 50.0)), 2)}


def write_samples(folder: Path, writer: Writer, pairs: Sequence[Pair], config: Config) -> None:
    """The likeliest query for some passages, beside the real one."""
    import json

    lines = []
    sampling = Sampling(max_tokens=config.max_query_tokens, temperature=0.0)
    for start in range(0, min(len(pairs), SHOWN), config.batch_size):
        batch = pairs[start : min(start + config.batch_size, SHOWN)]
        passages = [pair.passage for pair in batch]
        written = texts_about(
            writer,
            passages,
            sampling,
            passage_tokens=config.max_length or writer.tokenizer.model_max_length,
            prompt=None,
            seed=(config.seed, start),
        )
        for pair, texts in zip(batch, written, strict=True):
            line = {"written": texts[0], "real": pair.query, "passage": pair.passage}
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_text(folder / SAMPLES, "".join(lines))


def shared_words(samples: Path) -> float:
    """F1 of the words of written and real queries, the mean over all samples, in per cent."""
    found = [f1_of_words(row["written"], row["real"]) for row in read_rows(samples)]
    return round(100 * sum(found) / len(found), 2)


def f1_of_words(one: str, other: str) -> float:
    """Harmonic mean of the shares of words that two texts have in common, whatever their case."""
    words = [Counter(meaning(text).split()) for text in (one, other)]
    common = sum((words[0] & words[1]).values())
    return 2 * common / max(1, sum(words[0].values()) + sum(words[1].values()))


def save(writer: Writer, folder: Path) -> None:
    """Save model and tokenizer as transformers reads them."""
    writer.model.save_pretrained(str(folder))
    writer.tokenizer.save_pretrained(str(folder))


@dataclass(frozen=True)
class Finished:
    """The finished model, as `Run.finish` saves it."""

    writer: Writer
    config: Config

    def save_pretrained(self, folder: str) -> None:
        save(self.writer, Path(folder))
        start = Path(self.config.model)
        name = start.name if start.is_dir() else self.config.model  # a folder of this machine says nothing
        write_text(Path(folder) / "README.md", CARD.format(model=name, pairs=self.config.pairs.name))


CARD = """---
library_name: transformers
tags:
- query-generation
---

# A query generator

Reads a passage and writes questions that it answers. Made from {model}, trained on the pairs of {pairs} with
`sentence-transformers train query-generator`.

```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

model = AutoModelForSeq2SeqLM.from_pretrained("this folder")
tokenizer = AutoTokenizer.from_pretrained("this folder")
inputs = tokenizer("A passage.", return_tensors="pt", return_token_type_ids=False)
queries = model.generate(**inputs, do_sample=True, top_p=0.95, num_return_sequences=3, max_new_tokens=32)
print(tokenizer.batch_decode(queries, skip_special_tokens=True))
```
"""
