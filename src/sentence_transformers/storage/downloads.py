"""Fetch single files from the web. Models come through `hub.py`."""

from __future__ import annotations

from http.client import HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm.auto import tqdm

from sentence_transformers.storage.folder import replacing

CHUNK_BYTES = 2**16
TIMEOUT_SECONDS = 60.0
"""How long the server may stay silent."""


def http_get(url: str, path: str) -> None:
    """Download a file, with a progress bar.

    The file is written under a temporary name and renamed when it is complete; its folder is made if need
    be.

    Args:
        url: Where the file is, over http or https.
        path: Where to put it.

    Raises:
        ValueError: If the address is not one of the web.
        OSError: If the server cannot be reached, answers with an error, or breaks off.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(
            f"{url!r} is no address to download from. Pass one that begins with http:// or https://."
        )
    request = Request(url, headers={"User-Agent": "sentence-transformers"})
    try:
        response = urlopen(request, timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        error.close()
        raise OSError(
            f"{url} was not downloaded: the server answered {error.code} {error.reason}."
        ) from error
    except URLError as error:
        raise OSError(f"{url} was not downloaded: the server cannot be reached ({error.reason}).") from error
    with response, replacing(Path(path)) as temporary, open(temporary, "wb") as file:
        received = copy_with_progress(response, file, name=Path(path).name)
        expected = response.headers.get("Content-Length")
        if expected is not None and received != int(expected):
            raise OSError(
                f"{url} was not downloaded: the server sent {received} of {expected} bytes. Try again."
            )


def copy_with_progress(response: HTTPResponse, file: BinaryIO, *, name: str) -> int:
    """Copy what the server sends into a file; gives back the number of bytes."""
    expected = response.headers.get("Content-Length")
    received = 0
    with tqdm(
        unit="B", unit_scale=True, total=None if expected is None else int(expected), desc=name
    ) as progress:
        while chunk := response.read(CHUNK_BYTES):
            received += file.write(chunk)
            progress.update(len(chunk))
    return received
