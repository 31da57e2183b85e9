"""`sentence-transformers encode`: embeddings of a file's texts, written to disk.

Only reads arguments; the work is `SentenceTransformer.encode_to`.
"""

from __future__ import annotations

import io
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from sentence_transformers.cli.console import INTERRUPTED, EncodingBar, duration, plain_errors, terminal


class Format(str, Enum):
    """Of the files that are written."""

    npy = "npy"
    parquet = "parquet"


class Precision(str, Enum):
    """Of the numbers in them."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"
    uint8 = "uint8"
    binary = "binary"
    ubinary = "ubinary"


def encode(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help=(
                "Texts: .txt (one a line), .jsonl, .csv or .tsv (each also .gz), .parquet or a folder of these; - for "
                "lines from standard input, JSON lines with --column."
            ),
        ),
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="A folder, or the name of a model.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="A .npy file, or a folder for Parquet shards.", show_default=False),
    ],
    column: Annotated[str | None, typer.Option(help="Column with the texts.", show_default="text")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column with an id for each text.")] = None,
    format: Annotated[
        Format | None, typer.Option(help="What to write.", show_default="by the name of --out")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="query or document, for models that tell them apart.")
    ] = None,
    prompt_name: Annotated[str | None, typer.Option(help="Name of the model's prompt to use.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Text to put in front of each text.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Most texts in a batch.", show_default="as many as fill it", min=1)
    ] = None,
    normalize: Annotated[bool, typer.Option("--normalize", help="Scale vectors to length one.")] = False,
    truncate_dim: Annotated[int | None, typer.Option(help="Keep this many dimensions.", min=1)] = None,
    precision: Annotated[Precision, typer.Option(help="Of the numbers.")] = Precision.float32,
    ranges: Annotated[
        Path | None,
        typer.Option(help=".npy (2, D) with least and largest value of each dimension, for int8 and uint8."),
    ] = None,
    rows_per_shard: Annotated[
        int | None,
        typer.Option(
            help="Texts that become safe together; in Parquet, of a file.",
            min=1,
            show_default="16384 or 32768",
        ),
    ] = None,
    keep_texts: Annotated[bool, typer.Option("--keep-texts", help="Write the texts too (Parquet).")] = False,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="Such as cpu or cuda:0; given several times, one process for each.", show_default="the best"
        ),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the model.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model.")
    ] = False,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="The same bits for a text whatever is computed with it."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove what is at --out and begin anew.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no summary.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Compute embeddings of texts and write them to disk.

    Whatever stops the command, the same command goes on where it stopped.

    Exit codes: 0 done, 1 error, 2 wrong arguments, 130 Ctrl-C.
    """
    try:
        with plain_errors(debug=debug), EncodingBar(shown=not quiet) as bar:
            import numpy as np

            from sentence_transformers.sentence_transformer.model import SentenceTransformer

            several = device is not None and len(device) > 1
            loaded = SentenceTransformer(
                model,
                # With several, each process has its own; here the weights only wait to be sent.
                device="cpu" if several else device[0] if device else None,
                revision=revision,
                trust_remote_code=trust_remote_code,
            )
            optional: dict[str, Any] = {} if batch_size is None else {"batch_size": batch_size}
            is_half = precision is Precision.float16
            report = loaded.encode_to(
                out,
                standard_input() if source == "-" else Path(source),
                column=column,
                id_column=id_column,
                format=None if format is None else format.value,
                task=task,
                prompt_name=prompt_name,
                prompt=prompt,
                normalize_embeddings=normalize,
                truncate_dim=truncate_dim,
                precision="float32" if is_half else precision.value,
                ranges=None if ranges is None else np.load(ranges),
                dtype="float16" if is_half else None,
                rows_per_shard=rows_per_shard,
                keep_texts=keep_texts,
                device=device if several else None,
                show_progress_bar=False,
                on_progress=bar.show,
                overwrite=overwrite,
                deterministic=deterministic,
                **optional,
            )
    except KeyboardInterrupt:
        terminal().print(stopped(out))
        raise SystemExit(INTERRUPTED) from None
    if not quiet:
        terminal().print(summary(report))


def standard_input() -> io.TextIOBase:
    """Standard input as UTF-8 text, whatever the machine's language."""
    return io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig")


def stopped(out: Path) -> str:
    """What to say after Ctrl-C."""
    from sentence_transformers.inference.to_disk import record_of

    record = record_of(out)
    rows = 0 if record is None else record.rows
    return f"Stopped. {rows:,} rows are safe in {out}; the same command goes on from there."


def summary(report: Any) -> str:
    """What was done, in one line."""
    computed = report.rows - report.resumed_from
    text = f"{report.rows:,} rows of {report.width} {report.dtype} in {report.path}"
    if report.resumed_from:
        text += f", {report.resumed_from:,} of them from before"
    if computed:
        text += f"; {duration(report.seconds)} at {computed / report.seconds:,.0f} texts/s"
    if computed and report.tokens:
        text += f", {report.tokens / report.seconds:,.0f} tokens/s"
    return text
