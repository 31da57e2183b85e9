"""A loss that somebody else wrote works inside our wrappers like one of ours."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sentence_transformers import SentenceTransformer, losses
from tiny import WIDTH, sample_texts, tiny_checkpoint

TEXTS = [text[: 10 + 9 * (number % 6)] for number, text in enumerate(sample_texts())]
LABELS = torch.linspace(0, 1, 6, dtype=torch.float64)


class Theirs(nn.Module):
    """Cosine similarity of pairs against labels, written as user's guides show it."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def embed(self, features):
        return self.model(features)["sentence_embedding"]

    def forward(self, sentence_features, labels):
        first, second = (self.embed(column) for column in sentence_features)
        return F.mse_loss(torch.cosine_similarity(first, second), labels.view(-1))


class OtherName(Theirs):
    """Keeps the model under another name, inside a part of its own."""

    def __init__(self, model) -> None:
        nn.Module.__init__(self)
        self.tower = nn.ModuleDict({"encoder": model})

    def embed(self, features):
        return self.tower["encoder"](features)["sentence_embedding"]


class Copying(Theirs):
    """Hands the model copies of the features, one entry less."""

    def embed(self, features):
        return self.model({name: value for name, value in features.items() if name != "note"})[
            "sentence_embedding"
        ]


class Looking(Theirs):
    """Looks into the model, which is still the model."""

    def embed(self, features):
        assert len(self.model) == len(list(self.model)) == 2
        assert self.model[1].pooling_mode_mean_tokens
        assert self.model.get_sentence_embedding_dimension() == WIDTH
        assert sum(parameter.numel() for parameter in self.model.parameters()) > 1000
        assert not self.model.training
        return super().embed(features)


class Named(Theirs):
    """Gives parts by name."""

    def forward(self, sentence_features, labels):
        value = super().forward(sentence_features, labels)
        return {"a": value / 4, "b": 3 * value / 4}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny_checkpoint("bert", tmp_path_factory.mktemp("model"))
    return SentenceTransformer(str(folder), device="cpu").double().eval()


@pytest.fixture
def columns(model):
    return [model.preprocess(TEXTS[:6]), model.preprocess(TEXTS[6:12])]


def value_and_gradients(loss, columns, labels):
    loss.zero_grad()
    value = loss([dict(column) for column in columns], labels)
    value.backward()
    return value.detach(), [parameter.grad for parameter in loss.model.parameters()]


@pytest.mark.parametrize("kind", [Theirs, OtherName, Copying, Looking, Named])
def test_their_loss_on_shortened_embeddings_is_ours(kind, model, columns):
    columns = [{**column, "note": "of theirs"} for column in columns]
    ours = losses.MatryoshkaLoss(model, losses.CosineSimilarityLoss(model), [WIDTH, 8], [1.0, 0.5])
    theirs = losses.MatryoshkaLoss(model, kind(model), [WIDTH, 8], [1.0, 0.5])
    torch.testing.assert_close(
        value_and_gradients(theirs, columns, LABELS), value_and_gradients(ours, columns, LABELS)
    )


def test_their_loss_has_its_model_back_afterwards(model, columns):
    for loss in (Theirs(model), OtherName(model)):
        losses.MatryoshkaLoss(model, loss, [8])(columns, LABELS)
        assert model in set(loss.children()) | set(loss.get_submodule("").modules())
        assert not any(type(part).__name__ == "KnownEmbeddings" for part in loss.modules())


def test_their_loss_has_its_model_back_after_a_failure(model, columns):
    loss = Theirs(model)
    with pytest.raises(AttributeError):
        losses.MatryoshkaLoss(model, loss, [8])(columns, None)
    assert loss.model is model


def test_their_own_parameters_are_trained(model, columns):
    class WithLayer(Theirs):
        def __init__(self, model) -> None:
            super().__init__(model)
            self.layer = nn.Linear(1, 1).double()

        def forward(self, sentence_features, labels):
            return self.layer(super().forward(sentence_features, labels).view(1, 1)).squeeze()

    loss = WithLayer(model)
    losses.MatryoshkaLoss(model, loss, [WIDTH, 8])(columns, LABELS).backward()
    assert loss.layer.weight.grad is not None


def test_other_texts_go_through_the_model_itself(model, columns):
    class WithMore(Theirs):
        def forward(self, sentence_features, labels):
            more = self.model(self.model.preprocess(["a text of the loss's own"]))["sentence_embedding"]
            assert more.shape == (1, WIDTH)
            return super().forward(sentence_features, labels) + more.square().sum()

    losses.MatryoshkaLoss(model, WithMore(model), [8])(columns, LABELS)


def test_a_column_that_is_there_twice_keeps_its_two_embeddings(model):
    seen = []

    class Pairing(Theirs):
        def embed(self, features):
            seen.append(self.model(dict(features))["sentence_embedding"].detach())
            return super().embed(features)

    column = model.preprocess(TEXTS[:6])
    model.train()
    try:
        losses.MatryoshkaLoss(model, Pairing(model), [8])([column, column], LABELS)
    finally:
        model.eval()
    assert len(seen) == 2
    assert not torch.allclose(seen[0], seen[1])


def test_a_loss_that_hides_its_model_is_refused(model, columns):
    class Hiding(Theirs):
        def __init__(self, model) -> None:
            nn.Module.__init__(self)
            self.models = [model]

        def embed(self, features):
            return self.models[0](features)["sentence_embedding"]

    with pytest.raises(ValueError, match="Hiding does not hold the model"):
        losses.MatryoshkaLoss(model, Hiding(model), [8])(columns, LABELS)
