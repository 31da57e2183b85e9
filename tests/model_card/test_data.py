"""Card data: what they are told, what they find out, and what they say."""

from __future__ import annotations

import copy
import gc
import pickle
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub import CardData
from torch import nn

from sentence_transformers.model_card.data import BaseModelCardData
from sentence_transformers.model_card.sentence_transformer import SentenceTransformerModelCardData


class FirstLoss(nn.Module):
    citation = "@article{first}"

    def get_config_dict(self) -> dict[str, float]:
        return {"scale": 20.0}


class WrapperLoss(nn.Module):
    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss


class Evaluator:
    name = "dev"
    primary_metric = "dev_accuracy"
    description = "Triplet"


def model_from(name: str, commit: str | None = None) -> nn.Module:
    model = nn.Sequential()
    model.transformers_model = SimpleNamespace(config=SimpleNamespace(name_or_path=name, _commit_hash=commit))
    return model


def test_card_data_are_those_of_the_hub_library_and_take_arguments_by_position():
    data = SentenceTransformerModelCardData(
        "en", "mit", "My Model", "me/mine", [{"name": "d"}], [], "search", ["a"]
    )
    assert isinstance(data, CardData)
    assert data.language == ["en"]
    assert (data.license, data.model_name, data.model_id) == ("mit", "My Model", "me/mine")
    assert (data.train_datasets, data.task_name, data.tags) == ([{"name": "d"}], "search", ["a"])


def test_nothing_is_shared_between_card_data():
    BaseModelCardData().add_tags("mine")
    assert "mine" not in BaseModelCardData().tags


def test_tags_are_added_once():
    data = BaseModelCardData(tags="a")
    data.add_tags(["b", "a", "b"])
    data.add_tags("c")
    assert data.tags == ["a", "b", "c"]


def test_language_and_license_can_be_set_later():
    data = BaseModelCardData()
    data.set_language("de")
    data.set_license("apache-2.0")
    assert yaml.safe_load(data.to_yaml())["language"] == ["de"]
    assert yaml.safe_load(data.to_yaml())["license"] == "apache-2.0"


@pytest.mark.parametrize("name", ["bert-base-uncased", "sentence-transformers/all-MiniLM-L6-v2"])
def test_a_hub_name_becomes_the_base_model(name):
    data = BaseModelCardData()
    assert data.set_base_model(name, "abc")
    assert (data.base_model, data.base_model_revision) == (name, "abc")


def test_a_folder_of_the_hub_cache_counts_as_its_repository():
    data = BaseModelCardData()
    assert data.set_base_model("/home/me/.cache/models--owner--some-model/snapshots/0123abcd/")
    assert (data.base_model, data.base_model_revision) == ("owner/some-model", "0123abcd")


def test_paths_of_this_machine_never_become_the_base_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    data = BaseModelCardData()
    for path in (str(tmp_path), "./out", "out", "a/b/c", ""):
        assert not data.set_base_model(path)
    assert data.base_model is None


def test_the_base_model_is_found_out_when_the_model_is_registered():
    data, model = BaseModelCardData(), model_from("bert-base-uncased", "0123")
    data.register_model(model)
    assert (data.base_model, data.base_model_revision) == ("bert-base-uncased", "0123")
    data.register_model(model_from("roberta-base"))
    assert data.base_model == "bert-base-uncased"


def test_the_model_is_not_kept_alive():
    data, model = BaseModelCardData(), model_from("")
    data.register_model(model)
    assert data.model is model
    del model
    gc.collect()
    assert data.model is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda data: pickle.loads(pickle.dumps(data))])
def test_a_copy_speaks_of_no_model(copied):
    data, model = SentenceTransformerModelCardData("en"), model_from("")
    data.register_model(model)
    other = copied(data)
    assert data.model is model
    assert other.model is None
    assert other.language == ["en"]


def test_the_default_name_tells_the_base_model():
    data = SentenceTransformerModelCardData()
    assert data.get_default_model_name() == "SentenceTransformer"
    data.set_base_model("bert-base-uncased")
    assert data.get_default_model_name() == "SentenceTransformer based on bert-base-uncased"


def test_losses_become_tags_and_citations_also_those_inside_others():
    data = BaseModelCardData(tags=[])
    data.set_losses([WrapperLoss(FirstLoss())])
    assert data.tags == ["loss:WrapperLoss", "loss:FirstLoss"]
    assert data.citations == {"FirstLoss": "@article{first}"}


def test_data_sets_may_be_given_by_name_alone():
    data = BaseModelCardData(train_datasets=["owner/set", "plain", {"name": "x", "id": None}])
    assert data.train_datasets == [{"name": "owner/set", "id": "owner/set"}, {"name": "plain"}, {"name": "x"}]
    assert yaml.safe_load(data.to_yaml())["datasets"] == ["owner/set"]


def test_a_later_result_of_the_same_evaluator_replaces_the_earlier_one():
    data = BaseModelCardData()
    data.set_evaluation_metrics(Evaluator(), {"dev_accuracy": 0.5}, epoch=1, step=10)
    data.set_evaluation_metrics(Evaluator(), {"dev_accuracy": 0.75, "dev_note": "text"}, epoch=2, step=20)
    assert [result.metrics for result in data.evaluation_results] == [{"accuracy": 0.75}]
    assert data.training_logs == [
        {"Epoch": 1, "Step": 10, "dev_accuracy": 0.5},
        {"Epoch": 2, "Step": 20, "dev_accuracy": 0.75},
    ]
    assert data.format_eval_metrics()["metrics"] == ["accuracy"]


def test_an_evaluation_outside_of_training_is_no_row_of_the_logs():
    data = BaseModelCardData()
    data.set_evaluation_metrics(Evaluator(), {"dev_accuracy": 0.5}, epoch=-1, step=-1)
    assert data.training_logs == []
    assert data.format_training_logs() == {"eval_lines": ""}


def test_values_of_one_step_share_a_row_and_the_best_step_is_bold():
    data = BaseModelCardData()
    data.add_training_log(0.5, 10, {"Training Loss": 0.123456})
    data.add_training_log(0.5, 10, {"dev_accuracy": 0.5})
    data.add_training_log(1.0, 20, {"Training Loss": 0.1})
    data.set_best_model_step(20)
    assert data.format_training_logs()["eval_lines"].splitlines()[2:] == [
        "| 0.5 | 10 | 0.1235 | 0.5 |",
        "| **1** | **20** | **0.1** | - |",
    ]


def test_a_model_evaluated_in_retrieval_is_used_with_queries_and_documents():
    class InformationRetrievalEvaluator(Evaluator):
        pass

    data = SentenceTransformerModelCardData()
    assert "model.encode(sentences)" in data.generate_usage_snippet()
    data.set_evaluation_metrics(InformationRetrievalEvaluator(), {"dev_accuracy": 1.0})
    assert "model.encode_query(query)" in data.generate_usage_snippet()


def test_emissions_are_told_in_grams():
    measured = SimpleNamespace(
        emissions=0.25,
        energy_consumed=1.5,
        on_cloud="N",
        cpu_model="C",
        ram_total_size=8.0,
        duration=1800,
        gpu_model=None,
    )
    data = BaseModelCardData()
    assert data.get_codecarbon_data() == {}
    data.code_carbon_callback = SimpleNamespace(tracker=SimpleNamespace(final_emissions_data=measured))
    emissions = yaml.safe_load(data.to_yaml())["co2_eq_emissions"]
    assert (emissions["emissions"], emissions["hours_used"], emissions["on_cloud"]) == (250.0, 0.5, False)


def test_times_are_told_apart():
    data = BaseModelCardData()
    assert set(data.get_training_duration_data().values()) == {None}
    data.training_duration, data.evaluation_duration = 90.0, 30.0
    assert data.get_training_duration_data() == {
        "training_time": "1.0 minutes",
        "evaluation_time": "30.0 seconds",
        "total_time": "1.5 minutes",
    }


def test_images_among_the_examples_are_saved_beside_the_card(tmp_path):
    image = pytest.importorskip("PIL.Image").new("RGB", (2, 2))
    data = SentenceTransformerModelCardData()
    data.usage_examples, data.save_dir = ["a text", image], str(tmp_path)
    data.save_usage_example_assets()
    assert (tmp_path / "assets" / "image_1.png").is_file()
    assert data.usage_examples_display == ["a text", "assets/image_1.png"]


def test_the_dictionary_holds_what_is_known():
    data = SentenceTransformerModelCardData("en", model_name="Mine")
    told = data.to_dict()
    assert told["model_name"] == "Mine"
    assert told["pipeline_tag"] == "sentence-similarity"
    assert told["version"]["python"]
    assert "model_reference" not in told


def test_the_front_matter_has_no_empty_entries():
    assert set(yaml.safe_load(BaseModelCardData().to_yaml())) == {"library_name", "pipeline_tag", "tags"}


# ---- with data sets


@pytest.fixture
def dataset():
    datasets = pytest.importorskip(
        "datasets", reason='needs datasets: pip install "sentence-transformers[train]"'
    )
    return datasets.Dataset.from_dict(
        {
            "anchor": [f"question {number}" for number in range(8)],
            "positive": [f"answer {number}" for number in range(8)],
            "label": [number % 2 for number in range(8)],
        }
    )


def test_what_the_user_said_of_a_data_set_wins_and_the_rest_is_found_out(dataset):
    data = BaseModelCardData(tags=["dataset_size:1"])
    dataset.info.dataset_name = "found"
    (entry,) = data.extract_dataset_metadata(dataset, [{"name": "said"}], FirstLoss(), "train")
    assert (entry["name"], entry["size"], entry["columns"]) == ("said", 8, ["anchor", "positive", "label"])
    assert entry["loss"] == {"name": "FirstLoss", "settings": {"scale": 20.0}}
    assert entry["stats"]["label"]["values"] == "0: 50.0%, 1: 50.0%"
    assert len(entry["examples"]) == 3
    assert data.tags == ["dataset_size:8"]


def test_each_of_several_data_sets_is_described_with_its_own_loss(dataset):
    losses = {"one": FirstLoss(), "two": WrapperLoss(FirstLoss())}
    described = BaseModelCardData().extract_dataset_metadata(
        {"one": dataset, "two": dataset}, [], losses, "eval"
    )
    assert [(entry["name"], entry["loss"]["name"]) for entry in described] == [
        ("one", "FirstLoss"),
        ("two", "WrapperLoss"),
    ]


def test_widget_and_usage_examples_come_from_the_data(dataset):
    data = SentenceTransformerModelCardData()
    data.set_widget_examples(dataset)
    assert data.usage_examples == ["question 0", "answer 0", "question 1"]
    assert data.widget[0]["source_sentence"] == "question 0"
    assert "question 0" not in data.widget[0]["sentences"]
    assert '"answer 0",' in data.generate_usage_snippet()


def test_label_examples_are_grouped_by_label(dataset):
    data = BaseModelCardData()
    data.set_label_examples(dataset)
    assert data.label_example_list == [
        {"Label": "0", "Examples": "question 0; question 2; question 4"},
        {"Label": "1", "Examples": "question 1; question 3; question 5"},
    ]
