"""Find negatives for (anchor, positive) pairs that are hard to tell from the positives.

`mining.py` is the way in. A dataset is numbered in `texts.py`, embedded in `embedding.py` (and kept on disk in
`embedding_cache.py`), searched in `candidates.py`; what of the candidates becomes a negative is decided in
`selection.py`, written as columns in `outputs.py`, and told in `report.py`.
"""

from sentence_transformers.search.hard_negatives.mining import Mined, mine, mine_hard_negatives
from sentence_transformers.search.hard_negatives.report import MiningReport
from sentence_transformers.search.hard_negatives.selection import Rules

__all__ = ["Mined", "MiningReport", "Rules", "mine", "mine_hard_negatives"]
