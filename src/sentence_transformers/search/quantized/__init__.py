"""Search among embeddings that were stored in fewer bytes.

The names are public through `sentence_transformers.quantization`; this room is only their home.
"""

from sentence_transformers.search.quantized.engines import semantic_search_faiss, semantic_search_usearch
from sentence_transformers.search.quantized.exact import semantic_search_quantized

__all__ = ["semantic_search_faiss", "semantic_search_quantized", "semantic_search_usearch"]
