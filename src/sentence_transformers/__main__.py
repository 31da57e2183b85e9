"""`python -m sentence_transformers` is the command `sentence-transformers`."""

from __future__ import annotations

import sys

from sentence_transformers.cli import main

sys.exit(main())
