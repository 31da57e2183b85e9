"""Whole methods that a user runs: each a module with a `Config` and `run(config)`, see `table.py`."""

from __future__ import annotations

from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.table import RECIPES, recipe

__all__ = ["RECIPES", "Report", "recipe"]
