"""Search for hyperparameters: what is tried, and what is kept."""

from __future__ import annotations

import importlib.util
import json

import pytest

from recipes.smallest import hyperparameter_search as smallest
from sentence_transformers.recipes.hyperparameter_search import Config, best_of, next_settings, run


def test_the_best_trial_on_dev_is_kept(tmp_path):
    asked = smallest(tmp_path)
    report = run(Config(**asked, out=tmp_path / "out"))
    figure = "sts dev Spearman"
    trials = [row for row in report.rows if row["model"].startswith("trial")]
    assert len(trials) == 3
    [best] = [row for row in report.rows if row["model"].startswith("best")]
    assert best[figure] == max(row[figure] for row in trials)
    models = [path.parent.name for path in (tmp_path / "out/steps").glob("trial */model")]
    assert [f"best: {name}" for name in models] == [best["model"]]
    assert len(list((tmp_path / "out/steps").glob("trial */curve.json"))) == 3


def test_settings_lie_within_what_was_allowed_and_follow_from_seed_and_earlier_trials(tmp_path):
    config = Config(
        **{**smallest(tmp_path), "learning_rates": [1e-4], "warmup_ratios": [0.1, 0.2]}, out=tmp_path / "out"
    )
    tried: list = []
    for number in range(1, 9):
        settings = next_settings(config, tried, number)
        assert settings == next_settings(config, tried, number)
        assert settings["learning_rate"] == pytest.approx(1e-4)
        assert 0.1 <= settings["warmup_ratio"] <= 0.2
        assert settings["batch_size"] in (4, 8)
        assert settings["loss"] in ("cosent", "cosine")
        tried.append((json.loads(json.dumps(settings)), settings["warmup_ratio"]))
    assert len({settings["warmup_ratio"] for settings, _ in tried}) == 8


def test_later_trials_look_where_earlier_ones_did_well(tmp_path):
    config = Config(**{**smallest(tmp_path), "learning_rates": [1e-6, 1e-2]}, out=tmp_path / "out")
    tried: list = []
    for number in range(1, 25):
        settings = next_settings(config, tried, number)
        tried.append((settings, -abs(settings["learning_rate"] - 1e-3)))
    late = [settings["learning_rate"] for settings, _ in tried[12:]]
    assert sum(3e-4 < rate < 3e-3 for rate in late) >= 6  # a quarter of the range: 3 by chance


def test_of_equally_good_trials_the_first_is_best():
    assert best_of([({}, 1.0), ({}, 2.0), ({}, 2.0)]) == 2


def test_what_cannot_be_searched_is_refused(tmp_path, monkeypatch):
    asked = {**smallest(tmp_path), "out": tmp_path / "out"}
    with pytest.raises(ValueError, match="compared on dev"):
        Config(**{**asked, "dev": None})
    with pytest.raises(ValueError, match="is no range"):
        Config(**{**asked, "learning_rates": [1e-5, 1e-4, 1e-3]})
    with pytest.raises(ValueError, match="holds no size"):
        Config(**{**asked, "batch_sizes": [0]})
    with pytest.raises(ValueError, match="no loss 'cosines'"):
        Config(**{**asked, "losses": ["cosines"]})
    with pytest.raises(ValueError, match=r"batch_size=5 would not be used.*Pass batch_sizes"):
        run(Config(**{**asked, "batch_size": 5}))
    assert not asked["out"].exists()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"takes the package optuna.*\[tune\]"):
        run(Config(**asked))
