import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sentence_transformers.storage.downloads import http_get

CONTENT = bytes(range(256)) * 1000


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/unannounced":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if self.path == "/broken" else CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("page", ["file", "unannounced"])
def test_a_file_is_downloaded_into_a_folder_that_is_made(server, tmp_path, page):
    path = tmp_path / "new" / "file.bin"
    http_get(f"{server}/{page}", str(path))
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("page", "told"), [("missing", "404 Not Found"), ("broken", "1000 of 256000 bytes")])
def test_a_failed_download_says_why_and_leaves_nothing(server, tmp_path, page, told):
    with pytest.raises(OSError, match=told):
        http_get(f"{server}/{page}", str(tmp_path / "file.bin"))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_download_leaves_the_older_file(server, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"older")
    with pytest.raises(OSError, match="bytes"):
        http_get(f"{server}/broken", str(path))
    assert path.read_bytes() == b"older"


def test_a_server_that_is_not_there_is_told(tmp_path):
    with pytest.raises(OSError, match="cannot be reached"):
        http_get("http://127.0.0.1:9/file", str(tmp_path / "file.bin"))


def test_only_addresses_of_the_web_are_taken(tmp_path):
    with pytest.raises(ValueError, match="file:///etc/hosts"):
        http_get("file:///etc/hosts", str(tmp_path / "file.bin"))
