"""MLM: go on with the pre-training of a checkpoint on texts of one's own domain, by guessing masked tokens.

Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
https://arxiv.org/abs/1810.04805; for adaptation to a domain Gururangan et al. (2020), "Don't Stop Pretraining",
https://arxiv.org/abs/2004.10964. The head that guesses is that of the checkpoint, or a new one where it has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentence_transformers.losses.denoising_auto_encoder import quiet
from sentence_transformers.losses.features import Features
from sentence_transformers.recipes.config import UnlabelledConfig, option
from sentence_transformers.recipes.judging import dev_judge, judged, judges
from sentence_transformers.recipes.passes import InOrder, Passes, shuffled
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import only_run
from sentence_transformers.recipes.tables import read_texts, some_of
from sentence_transformers.recipes.training import load, repooled, trained
from sentence_transformers.training.loss_wiring import load_own_parameters, save_own_parameters

HELD_OUT = 20
"""One text of so many is not trained on, but tells the perplexity."""

MASKED, REPLACED = 0.8, 0.1
"""Of the tokens to guess, so many are masked, and so many another token; the rest stay as they are."""

UNSEEN = 0.1
"""How often a token that does not occur is taken to occur."""

LARGEST_EXPONENT = 700.0
"""Where the exponential function still gives a number."""

CHECKPOINT = "language-model"
"""The step that holds the trained transformer with its head, to go on from."""


@dataclass(kw_only=True)
class Config(UnlabelledConfig):
    """What masked language modelling is told."""

    mask_ratio: float = option(0.15, help="Share of the tokens that are to be guessed.", least=0)
    batch_size: int = option(16, help="Rows in a batch.", least=1)
    learning_rate: float = option(5e-5, help="Highest learning rate.", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.mask_ratio < 1:
            raise ValueError(
                f"mask_ratio={self.mask_ratio} leaves nothing to guess, or nothing to guess from. Pass a share between "
                "0 and 1, such as 0.15."
            )


def run(config: Config) -> Report:
    """Pre-train further on bare texts: mask tokens, and guess them from the others (MLM)."""
    all_judges = judges(config.dev, config.test)
    texts = some_of(read_texts(config.texts, config.column), config.limit, config.seed)
    if len(texts) < 2:
        raise ValueError("One text is too few: some are kept back to tell the perplexity. Pass 2 or more.")
    order = np.random.default_rng(config.seed).permutation(len(texts)).tolist()
    held = -(-len(texts) // HELD_OUT)
    kept_back, taught = ([texts[place] for place in part] for part in (order[:held], order[held:]))
    with only_run("mlm", config) as run:

        def guessing(model: Any) -> GuessingLoss:
            return GuessingLoss(model, ratio=config.mask_ratio, seed=config.seed, texts=taught)

        def figures(model: Any, loss: GuessingLoss) -> dict[str, float]:
            return {**judged(model, all_judges), "perplexity": perplexity(loss, kept_back, config.batch_size)}

        def start() -> dict[str, float]:
            model = load(config.model, config)
            return figures(model, guessing(model))

        run.measure("start", start)

        def make() -> tuple[Any, Any, Any]:
            model = repooled(load(config.model, config), config.pooling)
            loss = guessing(model)

            def rows(number: int) -> dict[str, list[Any]]:
                # The label numbers the text through all passes: of it and the seed its masks are made.
                labels = list(range(number * len(taught), (number + 1) * len(taught)))
                return shuffled({"text": taught, "label": labels}, seed=config.seed, number=number)

            callbacks.append(keeping(loss))
            return model, Passes(rows), loss

        callbacks: list[Any] = []
        model = trained(
            run,
            make,
            config=config,
            judge=dev_judge(all_judges),
            arguments={"batch_sampler": InOrder},
            callbacks=callbacks,
        )

        def learned() -> GuessingLoss:
            loss = guessing(model)
            load_own_parameters(loss, run.made("training"))
            return loss

        run.measure("MLM", lambda: figures(model, learned()))
        run.step(CHECKPOINT, lambda folder: save_language_model(model, learned().head, folder))
        return run.finish(model)


def save_language_model(model: Any, head: Head, folder: Path) -> None:
    """Write a model's transformer with its head and tokenizer as one checkpoint, as transformers reads it.

    The model itself has no place for the head, and whoever pre-trains further would have to begin with a new one.
    """
    head.save_behind(model[0].auto_model, folder)
    model.tokenizer.save_pretrained(str(folder))


class GuessingLoss(nn.Module):
    """Mean cross entropy of the tokens that were chosen to be guessed.

    Takes one text column, and as label a number for each row: which tokens are chosen, and what stands in their
    place, depends on it, on the seed and on the text alone.

    Args:
        model: A `SentenceTransformer` whose first part is a transformer.
        ratio: Share of the tokens to guess; at least one of each row that has any.
        seed: Of the choice.
        texts: A new head begins with guessing each token as often as it occurs in these. Were it to learn that
            first, it would pull all texts together on the way.

    Raises:
        ValueError: If there is no head for the architecture, or no token for what is masked.
    """

    def __init__(self, model: Any, *, ratio: float = 0.15, seed: int = 42, texts: Sequence[str] = ()) -> None:
        super().__init__()
        if getattr(model.tokenizer, "mask_token_id", None) is None:
            raise ValueError(
                "The tokenizer has no mask token, so this model cannot learn by guessing masked tokens."
            )
        self.model = model
        self.ratio = ratio
        self.seed = seed
        self.mask_id = int(model.tokenizer.mask_token_id)
        self.special_ids = torch.tensor(sorted(model.tokenizer.all_special_ids))
        self.vocabulary_size = len(model.tokenizer)
        self.head = Head(model[0].auto_model, seed=seed)
        if texts and self.head.is_new:
            rows = model.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
            self.head.expect(torch.tensor([token for row in rows for token in row], dtype=torch.long))

    def forward(self, sentence_features: Iterable[Features], labels: Tensor) -> Tensor:
        """The loss of a batch: features of the texts, and their numbers (B,)."""
        logits, targets = self.guesses(next(iter(sentence_features)), labels)
        return F.cross_entropy(logits, targets)

    def guesses(self, features: Features, labels: Tensor) -> tuple[Tensor, Tensor]:
        """For each token to guess the logits of the vocabulary, (N, V), and the token's id, (N,)."""
        ids = features["input_ids"]
        shown, chosen = self.masked(ids, features["attention_mask"], labels.tolist())
        states = self.model({**features, "input_ids": shown})["token_embeddings"]  # (B, T, D)
        return self.head(states[chosen]), ids[chosen]

    def masked(self, ids: Tensor, mask: Tensor, numbers: list[int]) -> tuple[Tensor, Tensor]:
        """Token ids as the model is shown them, and where they are to be guessed, (B, T) each."""
        on_cpu = ids.cpu()
        may_be_chosen = mask.cpu().bool() & ~torch.isin(on_cpu, self.special_ids)
        shown, chosen = on_cpu.numpy().copy(), np.zeros(on_cpu.shape, dtype=bool)
        for row, number in enumerate(numbers):
            places = may_be_chosen[row].nonzero().flatten().numpy()
            chance = np.random.default_rng((self.seed, number))
            is_chosen = chance.random(len(places)) < self.ratio
            if len(places) and not is_chosen.any():
                is_chosen[chance.integers(len(places))] = True
            places = places[is_chosen]
            fate = chance.random(len(places))
            others = chance.integers(self.vocabulary_size, size=len(places))
            before = shown[row, places]
            shown[row, places] = np.where(
                fate < MASKED, self.mask_id, np.where(fate < MASKED + REPLACED, others, before)
            )
            chosen[row, places] = True
        return torch.from_numpy(shown).to(ids.device), torch.from_numpy(chosen).to(ids.device)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {"mask_ratio": self.ratio}


class Head(nn.Module):
    """What stands behind a transformer to guess tokens: that of its architecture in transformers.

    Its weights are those of the checkpoint; what the checkpoint lacks is new, and the matrix of the vocabulary is
    shared with the token embeddings where the architecture does so.

    Args:
        transformer: The transformers model that the states come from.
        seed: Of new weights.

    Raises:
        ValueError: If transformers has none for the architecture.
    """

    def __init__(self, transformer: Any, *, seed: int) -> None:
        super().__init__()
        whole, self.is_new = masked_language_model(transformer, seed)
        inputs, outputs = whole.get_input_embeddings(), whole.get_output_embeddings()
        if outputs is not None and outputs.weight is inputs.weight:
            outputs.weight = transformer.get_input_embeddings().weight
        setattr(whole, whole.base_model_prefix, GivenStates())
        self.whole = whole.train()

    @torch.no_grad()
    def expect(self, tokens: Tensor) -> None:
        """Let the logits begin with how often each token occurs among these, (N,)."""
        outputs = self.whole.get_output_embeddings()
        bias = getattr(outputs, "bias", None)
        if bias is not None:
            counts = torch.bincount(tokens, minlength=len(bias))[: len(bias)] + UNSEEN
            bias.copy_((counts / counts.sum()).log())

    def forward(self, states: Tensor) -> Tensor:
        """Logits of the vocabulary for each of some states of tokens: (N, D) to (N, V)."""
        body = getattr(self.whole, self.whole.base_model_prefix)
        body.states = states[None]
        ids = torch.zeros(1, len(states), dtype=torch.long, device=states.device)
        try:
            return self.whole(input_ids=ids, attention_mask=torch.ones_like(ids))["logits"][0].float()
        finally:
            body.states = None

    def save_behind(self, transformer: Any, folder: Path) -> None:
        """Write the checkpoint of a masked language model: this head behind a transformer."""
        prefix = self.whole.base_model_prefix
        states = getattr(self.whole, prefix)
        setattr(self.whole, prefix, transformer)
        try:
            self.whole.save_pretrained(str(folder))
        finally:
            setattr(self.whole, prefix, states)


class GivenStates(nn.Module):
    """Stands in the place of a transformer, and gives the states that it was given."""

    states: Tensor | None = None

    def forward(self, *arguments: Any, **options: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=self.states)


def masked_language_model(transformer: Any, seed: int) -> tuple[Any, bool]:
    """A transformer's checkpoint with its head, and whether some of the head had to be made anew.

    If the checkpoint has gone, everything is new.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    config = type(transformer.config).from_dict(transformer.config.to_dict())
    if config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise ValueError(
            f"transformers has no head that guesses masked tokens for the architecture {config.model_type!r}. Choose "
            "an encoder such as BERT, RoBERTa or ModernBERT."
        )
    options = {"config": config, "dtype": transformer.dtype}
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        try:
            if not transformer.name_or_path:
                raise OSError
            found, loaded = transformers.AutoModelForMaskedLM.from_pretrained(
                transformer.name_or_path, output_loading_info=True, **options
            )
            body = f"{found.base_model_prefix}."
            is_new = any(not name.startswith(body) for name in loaded["missing_keys"])
        except OSError:  # the folder has gone, or there is no network
            found, is_new = transformers.AutoModelForMaskedLM.from_config(**options), True
    return found.to(transformer.device), is_new


def keeping(loss: nn.Module) -> Any:
    """A callback of the trainer that keeps the head beside the finished model, for the figures that need it."""
    from transformers import TrainerCallback

    class KeepsHead(TrainerCallback):
        def on_train_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
            save_own_parameters(loss, Path(args.output_dir).parent)

    return KeepsHead()


@torch.no_grad()
def perplexity(loss: GuessingLoss, texts: list[str], batch_size: int) -> float:
    """How many tokens, all equally likely, would be as hard to guess from: e to the mean cross entropy.

    Args:
        loss: What guesses. Text number n is masked as row number n of training is.
        texts: Texts that were not trained on.
        batch_size: Texts at once.
    """
    modes = [(part, part.training) for part in loss.modules()]
    loss.eval()
    total, count = 0.0, 0
    try:
        for first in range(0, len(texts), batch_size):
            some = texts[first : first + batch_size]
            features = {
                name: value.to(loss.model.device) if isinstance(value, Tensor) else value
                for name, value in loss.model.preprocess(some).items()
            }
            numbers = torch.arange(first, first + len(some))
            logits, targets = loss.guesses(features, numbers)
            total += float(F.cross_entropy(logits, targets, reduction="sum"))
            count += len(targets)
    finally:
        for part, mode in modes:
            part.training = mode
    return round(math.exp(min(total / max(count, 1), LARGEST_EXPONENT)), 2)
