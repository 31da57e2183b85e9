"""In-batch negatives losses for which another release's results are recorded in `data/losses_ranking.json`.

Read by the test that compares, and by `tools/record_losses_ranking.py`, which records; so nothing here
imports the package. How a case is measured stands in `pair_loss_cases.py`.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

from pair_loss_cases import Case, given

RECORDED = Path(__file__).parent / "data" / "losses_ranking.json"

PLAIN, SYMMETRIC = "MultipleNegativesRankingLoss", "MultipleNegativesSymmetricRankingLoss"
ALL_DIRECTIONS = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
HARDNESS_MODES = ("in_batch_negatives", "hard_negatives", "all_negatives")

CASES = [
    *(Case(f"{cached}{loss}", 3) for cached, loss in product(("", "Cached"), (PLAIN, SYMMETRIC))),
    *(Case(PLAIN, columns, None, given(scale=5.0)) for columns in (2, 4)),
    *(
        Case(PLAIN, 3, None, given(directions=("query_to_doc", other)))
        for other in ALL_DIRECTIONS
        if other != "query_to_doc"
    ),
    Case(PLAIN, 3, None, given(directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction")),
    *(
        Case(
            PLAIN,
            columns,
            None,
            given(scale=3.0, directions=ALL_DIRECTIONS, hardness_mode=mode, hardness_strength=2.5),
        )
        for columns, mode in product((2, 4), HARDNESS_MODES)
    ),
    Case("CachedMultipleNegativesRankingLoss", 3, None, given(mini_batch_size=3, directions=ALL_DIRECTIONS)),
    Case(
        "CachedMultipleNegativesRankingLoss",
        3,
        None,
        given(mini_batch_num_tokens=50, hardness_mode="all_negatives", hardness_strength=4.0),
    ),
]
