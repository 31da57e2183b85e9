"""Find what is alike: semantic search, paraphrase mining, and what is built on them.

The names are public through `sentence_transformers.util`; this room is only their home.
"""
