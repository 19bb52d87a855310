"""`fetch` leaves a checked file or nothing."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fedloom.data.datasets._download import atomic_write, cache_folder, fetch, verify_sha256

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    requests: list[str]

    def do_GET(self):
        self.requests.append(self.path)
        if self.path.endswith("missing"):
            self.send_error(404)
            return
        self.send_response(200)
        if "unknown-length" not in self.path:
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:-1] if "truncated" in self.path else CONTENT)

    def log_message(self, format, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for them, so that no socket outlives a test


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(Handler, "requests", [], raising=False)
    with Server(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_a_good_file_is_fetched_once(server, tmp_path):
    path = fetch(f"{server}/file.bin", sha256=SHA256.upper(), size=len(CONTENT), cache_dir=tmp_path)
    assert path == tmp_path / "file.bin"
    assert fetch(f"{server}/file.bin", sha256=SHA256, cache_dir=tmp_path) == path
    assert path.read_bytes() == CONTENT
    assert Handler.requests == ["/file.bin"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_file_in_the_cache_is_fetched_again(server, tmp_path):
    (tmp_path / "f").write_bytes(b"half of it")
    path = fetch(f"{server}/file.bin?version=2", sha256=SHA256, cache_dir=tmp_path, filename="f")
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "sha256", "size", "error", "message"),
    [
        ("file", "0" * 64, None, ValueError, "must have SHA-256 0000"),
        ("truncated", SHA256, None, ValueError, "must have SHA-256"),
        ("truncated", SHA256, len(CONTENT), ValueError, f"got {len(CONTENT) - 1} bytes"),
        ("truncated-unknown-length", SHA256, None, ValueError, "must have SHA-256"),
        ("file", SHA256, 1000, ValueError, "must be 1000 bytes long, got more"),
        ("missing", SHA256, None, ConnectionError, "404"),
    ],
)
def test_a_bad_file_is_refused_and_nothing_stays_behind(server, tmp_path, name, sha256, size, error, message):
    with pytest.raises(error, match=message) as caught:
        fetch(f"{server}/{name}", sha256=sha256, size=size, cache_dir=tmp_path)
    assert f"{server}/{name}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_fetch_keeps_what_had_the_name_before(server, tmp_path):
    (tmp_path / "missing").write_bytes(b"old")
    with pytest.raises(ConnectionError):
        fetch(f"{server}/missing", sha256=SHA256, cache_dir=tmp_path)
    assert (tmp_path / "missing").read_bytes() == b"old"


def test_offline_the_error_says_what_to_do(server, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    url = "http://127.0.0.1:9/file.bin"  # the discard port: nobody listens
    with pytest.raises(ConnectionError) as caught:
        fetch(url, sha256=SHA256, cache_dir=tmp_path)
    assert url in str(caught.value)
    assert f"pass its path, or put it at {tmp_path / 'file.bin'}" in str(caught.value)


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://example.org/x", "/etc/hosts", ""])
def test_only_http_is_fetched(url, tmp_path):
    with pytest.raises(ValueError, match="url must start with http"):
        fetch(url, sha256=SHA256, cache_dir=tmp_path)


@pytest.mark.parametrize("filename", ["../x", "a/b", "..", ".hidden", "a\\b", "c:x"])
def test_a_file_name_cannot_leave_the_cache(filename, tmp_path):
    with pytest.raises(ValueError, match="filename must be a plain file name"):
        fetch("http://127.0.0.1:9/x", sha256=SHA256, cache_dir=tmp_path, filename=filename)
    with pytest.raises(ValueError, match="filename must be a plain file name"):
        fetch("http://127.0.0.1:9/x/..%2F..%2Fy", sha256=SHA256, cache_dir=tmp_path)


def test_an_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "x") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_verify_sha256(tmp_path):
    (tmp_path / "x").write_bytes(CONTENT)
    verify_sha256(tmp_path / "x", SHA256)
    with pytest.raises(ValueError, match=f"x must have SHA-256 {'1' * 64}, got {SHA256}"):
        verify_sha256(tmp_path / "x", "1" * 64)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        verify_sha256(tmp_path / "x", "abc")


def test_where_the_cache_lies(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FEDLOOM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert cache_folder() == tmp_path / ".cache" / "fedloom"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "fedloom"
    monkeypatch.setenv("FEDLOOM_CACHE", "~/own")
    assert cache_folder() == Path(tmp_path / "own")
    assert cache_folder(tmp_path / "argument").is_dir()
