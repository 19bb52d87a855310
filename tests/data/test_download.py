"""`fetch` leaves a checked file, or a beginning that the next call goes on with."""

import errno
import hashlib
import io
import json
import multiprocessing
import os
import re
import signal
import socket
import struct
import threading
import time
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedloom.data._cache_folder import atomic_write, cache_folder, verify_sha256
from fedloom.data.datasets import _download
from fedloom.data.datasets._download import fetch
from fedloom.data.datasets._lock import alone
from fedloom.data.datasets._progress import terminal_bar

CONTENT = np.random.default_rng(0).bytes(3_000_000)  # some blocks, none like another
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = bytes(reversed(CONTENT))


class Handler(BaseHTTPRequestHandler):
    """Serves `server.content` as the next of `server.behaviour` has it; after the last one it behaves well."""

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        how = server.behaviour.pop(0) if server.behaviour else {}
        content, etag = how.get("content", server.content), how.get("etag", server.etag)
        if "redirect" in how:
            self.send_response(302)
            self.send_header("Location", how["redirect"])
            self.end_headers()
            return
        if "status" in how:
            self.send_error(how["status"])
            return
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        fresh = self.headers.get("If-Range") in (None, etag, how.get("date"))
        if asked and fresh and not how.get("ignore_range"):
            start = int(asked[1])
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            shown = how.get("content_range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Range", shown)
        else:
            self.send_response(how.get("status_line", 200))
            if "status_line" in how:
                self.send_header("Content-Range", how["content_range"])
        body = content[start:]
        if how.get("chunked"):
            self.send_header("Transfer-Encoding", "chunked")
        elif not how.get("no_length"):
            self.send_header("Content-Length", str(how.get("length", len(body))))
        if etag:
            self.send_header("ETag", etag)
        if "date" in how:
            self.send_header("Last-Modified", how["date"])
        self.end_headers()
        body = body[: how.get("cut", len(body))]
        if how.get("chunked"):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(body), body))
            self.wfile.write(b"0\r\n\r\n" if "cut" not in how else b"")
        else:
            self.wfile.write(body)
        if "reset" in how:
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if "wait" in how:
            self.wfile.flush()
            how["wait"].wait(20)

    def handle(self):
        try:
            super().handle()
        except ConnectionError:  # a client may go whenever it likes
            self.close_connection = True

    def log_message(self, format, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for them, so that no socket outlives a test

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: bytes = CONTENT
        self.etag: str | None = '"one"'
        self.behaviour: list[dict] = []
        self.requests: list[tuple] = []
        self.url = f"http://127.0.0.1:{self.server_port}/file.bin"

    @property
    def ranges(self) -> list[str | None]:
        return [asked for _, asked, _ in self.requests]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield httpd
        httpd.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


PART = ["file.bin.part", "file.bin.part.json"]


# --- fetching once


def test_a_good_file_is_fetched_once(server, tmp_path):
    path = fetch(server.url, sha256=SHA256.upper(), size=len(CONTENT), cache_dir=tmp_path)
    assert path == tmp_path / "file.bin"
    assert fetch(server.url, sha256=SHA256, cache_dir=tmp_path) == path
    assert path.read_bytes() == CONTENT
    assert server.requests == [("/file.bin", None, None)]
    assert names(tmp_path) == ["file.bin"]


def test_a_damaged_file_in_the_cache_is_fetched_again(server, tmp_path):
    (tmp_path / "f").write_bytes(b"half of it")
    path = fetch(f"{server.url}?version=2", sha256=SHA256, cache_dir=tmp_path, filename="f")
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("behaviour", "sha256", "size", "error", "message"),
    [
        ({}, "0" * 64, None, ValueError, "must have SHA-256 0000.* which were deleted"),
        ({"content": OTHER}, SHA256, len(CONTENT), ValueError, "must have SHA-256"),
        ({"no_length": True, "cut": 1000}, SHA256, None, ValueError, r"must have SHA-256.*\(1000 bytes"),
        ({}, SHA256, 1000, ValueError, "must be 1000 bytes long, but its server has 3000000"),
        ({"no_length": True}, SHA256, 1000, ValueError, "must be 1000 bytes long, got more"),
        ({"status": 404}, SHA256, None, ConnectionError, "404"),
        ({"status": 503}, None, None, ConnectionError, "503"),
        ({"no_length": True}, None, None, ValueError, "comes without its length"),
    ],
)
def test_a_bad_file_is_refused_and_nothing_stays_behind(server, tmp_path, behaviour, sha256, size, error, message):
    server.behaviour = [behaviour]
    with pytest.raises(error, match=message) as caught:
        fetch(server.url, sha256=sha256, size=size, cache_dir=tmp_path)
    assert server.url in str(caught.value)
    assert f"put it at {tmp_path / 'file.bin'}" in str(caught.value)
    assert names(tmp_path) == []
    assert fetch(server.url, sha256=SHA256, cache_dir=tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, None]


def test_a_failed_fetch_keeps_what_had_the_name_before(server, tmp_path):
    (tmp_path / "file.bin").write_bytes(b"old")
    server.behaviour = [{"status": 404}]
    with pytest.raises(ConnectionError):
        fetch(server.url, sha256=SHA256, cache_dir=tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == b"old"


def test_offline_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    url = "http://127.0.0.1:9/file.bin"  # the discard port: nobody listens
    with pytest.raises(ConnectionError) as caught:
        fetch(url, sha256=SHA256, cache_dir=tmp_path)
    assert url in str(caught.value)
    assert f"pass its path, or put it at {tmp_path / 'file.bin'}" in str(caught.value)
    assert names(tmp_path) == []


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


# --- redirects


def test_a_redirect_to_http_is_followed_with_the_range(server, tmp_path):
    server.behaviour = [{"cut": 1000}, {"redirect": "/elsewhere"}]
    with pytest.raises(ConnectionError):
        fetch(server.url, sha256=SHA256, cache_dir=tmp_path)
    assert fetch(server.url, sha256=SHA256, cache_dir=tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == ("/elsewhere", "bytes=1000-", '"one"')


@pytest.mark.parametrize("place", ["ftp://127.0.0.1/x", "file:///etc/hosts"])
def test_a_redirect_to_anything_else_is_not_followed(server, tmp_path, place):
    server.behaviour = [{"redirect": place}]
    with pytest.raises(ConnectionError, match=re.escape(place)):
        fetch(server.url, sha256=SHA256, cache_dir=tmp_path)
    assert names(tmp_path) == []


def test_no_redirect_leads_from_https_to_http():
    request = _download.Request("https://example.org/x")
    with pytest.raises(_download.URLError, match="http://example.org/y, which is not followed"):
        _download._HttpOnly().redirect_request(request, io.BytesIO(), 302, "", {}, "http://example.org/y")


# --- going on where a transfer broke off


@pytest.mark.parametrize("sha256", [SHA256, None])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_broken_transfer_goes_on_where_it_broke_off(server, tmp_path, sha256, chunked):
    server.behaviour = [{"cut": 1_234_567, "chunked": chunked}, {"cut": 1_000_000, "chunked": chunked}]
    for reached in (1_234_567, 2_234_567):
        with pytest.raises(ConnectionError, match=rf"broke off after {reached} bytes.*Try again: it goes on from there"):
            fetch(server.url, sha256=sha256, cache_dir=tmp_path)
        assert names(tmp_path) == PART
        assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:reached]
    assert fetch(server.url, sha256=sha256, cache_dir=tmp_path).read_bytes() == CONTENT
    assert server.requests[1:] == [("/file.bin", "bytes=1234567-", '"one"'), ("/file.bin", "bytes=2234567-", '"one"')]
    assert names(tmp_path) == (["file.bin"] if sha256 else ["file.bin", "file.bin.sha256"])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(0, 3000), max_size=4),
    ignores=st.lists(st.booleans(), min_size=4, max_size=4),
    tagged=st.booleans(),
)
def test_however_often_it_breaks_the_file_comes_out_whole(server, tmp_path_factory, cuts, ignores, tagged):
    folder = tmp_path_factory.mktemp("cache")
    server.content, server.etag = CONTENT[:3001], '"one"' if tagged else None
    server.behaviour = [{"cut": cut, "ignore_range": ignore} for cut, ignore in zip(cuts, ignores, strict=False)]
    for _ in range(len(cuts) + 1):
        try:
            path = fetch(server.url, sha256=hashlib.sha256(server.content).hexdigest(), cache_dir=folder)
            break
        except ConnectionError:
            assert (folder / "file.bin.part").read_bytes() == server.content[: (folder / "file.bin.part").stat().st_size]
    assert path.read_bytes() == server.content
    assert names(folder) == ["file.bin"]


@pytest.mark.parametrize(
    "again", [{"ignore_range": True}, {"content_range": "bytes 7-2999999/3000000"}, {"content_range": "?"}, {"status": 416}]
)
def test_a_server_that_cannot_go_on_is_asked_for_the_whole(server, tmp_path, again):
    server.behaviour = [{"cut": 1000}, again]
    with pytest.raises(ConnectionError):
        fetch(server.url, sha256=SHA256, cache_dir=tmp_path)
    assert fetch(server.url, sha256=SHA256, cache_dir=tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-"] + [None] * ("ignore_range" not in again)


def test_a_server_that_never_sends_the_beginning_is_given_up(server, tmp_path):
    server.behaviour = [{"status_line": 206, "content_range": "bytes 7-9/10"}]
    with pytest.raises(ConnectionError, match="another part than the beginning"):
        fetch(server.url, sha256=SHA256, cache_dir=tmp_path)
    assert names(tmp_path) == []


def test_a_reset_connection_leaves_a_beginning(server, tmp_path):
    server.behaviour = [{"cut": 2_000_000, "reset": True}]
    with pytest.raises(ConnectionError, match="broke off after"):
        fetch(server.url, sha256=SHA256, cache_dir=tmp_path)
    reached = (tmp_path / "file.bin.part").stat().st_size
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:reached]
    assert fetch(server.url, sha256=SHA256, cache_dir=tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={reached}-" if reached else None]


@pytest.mark.parametrize("sha256", [hashlib.sha256(OTHER).hexdigest(), None])
def test_a_file_that_changed_meanwhile_is_fetched_anew(server, tmp_path, sha256):
    server.behaviour = [{"cut": 1000}]
    with pytest.raises(ConnectionError):
        fetch(server.url, sha256=sha256, cache_dir=tmp_path)
    server.content, server.etag = OTHER, '"two"'
    assert fetch(server.url, sha256=sha256, cache_dir=tmp_path).read_bytes() == OTHER
    assert server.requests[-1] == ("/file.bin", "bytes=1000-", '"one"')


def test_a_date_serves_where_there_is_no_strong_tag(server, tmp_path):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    server.etag = 'W/"weak"'
    server.behaviour = [{"cut": 1000, "date": date}, {"date": date}]
    with pytest.raises(ConnectionError):
        fetch(server.url, sha256=None, cache_dir=tmp_path)
    assert fetch(server.url, sha256=None, cache_dir=tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == ("/file.bin", "bytes=1000-", date)


def test_without_tag_and_checksum_nothing_could_tell_so_it_starts_anew(server, tmp_path):
    server.etag = None
    server.behaviour = [{"cut": 1000}]
    with pytest.raises(ConnectionError):
        fetch(server.url, sha256=None, cache_dir=tmp_path)
    assert fetch(server.url, sha256=None, cache_dir=tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, None]


def test_a_changed_file_behind_a_server_without_tags_is_found_out_and_its_part_deleted(server, tmp_path):
    server.etag = None
    server.behaviour = [{"cut": 1000, "content": OTHER}]
    for error in (ConnectionError, ValueError):
        with pytest.raises(error):
            fetch(server.url, sha256=SHA256, cache_dir=tmp_path)
    assert names(tmp_path) == []
    assert fetch(server.url, sha256=SHA256, cache_dir=tmp_path).read_bytes() == CONTENT


def test_a_server_that_promises_more_than_it_has(server, tmp_path):
    server.behaviour = [{"length": len(CONTENT) + 5}, {"length": len(CONTENT) + 5, "ignore_range": True}]
    for _ in range(2):
        with pytest.raises(ConnectionError, match="broke off after 3000000 bytes of 3000005"):
            fetch(server.url, sha256=SHA256, cache_dir=tmp_path)
    assert fetch(server.url, sha256=SHA256, cache_dir=tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("meta", ["", "{", "[]", "null", '{"url": 1}', '{"url": "x", "sha256": "y", "total": "z", "validator": 3}'])
def test_a_part_of_something_else_is_not_gone_on_with(server, tmp_path, meta):
    (tmp_path / "file.bin.part").write_bytes(b"something else")
    (tmp_path / "file.bin.part.json").write_text(meta)
    assert fetch(server.url, sha256=SHA256, cache_dir=tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None]


def test_the_part_of_another_address_or_checksum_is_not_gone_on_with(server, tmp_path):
    server.behaviour = [{"cut": 1000}, {"cut": 1000}]
    for url, sha256 in ((server.url, "0" * 64), (server.url + "?x", SHA256), (server.url, SHA256)):
        with pytest.raises(ConnectionError) if server.behaviour else nullcontext():
            fetch(url, sha256=sha256, cache_dir=tmp_path, filename="file.bin")
    assert server.ranges == [None, None, None]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_part_that_was_complete_is_not_asked_for_again(server, tmp_path, monkeypatch):
    """As when the process is killed between the last byte and the checksum."""
    with monkeypatch.context() as patch:
        patch.setattr(_download, "_check", lambda wanted, part: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch(server.url, sha256=SHA256, cache_dir=tmp_path)
    assert names(tmp_path) == PART
    assert fetch(server.url, sha256=SHA256, cache_dir=tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_what_the_part_says_about_itself(server, tmp_path):
    server.behaviour = [{"cut": 1000}]
    with pytest.raises(ConnectionError):
        fetch(server.url, sha256=SHA256, cache_dir=tmp_path)
    meta = json.loads((tmp_path / "file.bin.part.json").read_text())
    assert meta == {"url": server.url, "sha256": SHA256, "total": len(CONTENT), "validator": '"one"'}


# --- full disk, kill, two at once


def test_a_full_disk_leaves_a_part_to_go_on_with(server, tmp_path, monkeypatch):
    def write(file, block):
        room = 1_500_000 - file.tell()
        file.write(block[:room])
        if room < len(block):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(_download, "_write", write)
        with pytest.raises(OSError, match=r"disk is full: .*file\.bin\.part has no room to grow. \d+ bytes are missing.*goes on") as caught:
            fetch(server.url, sha256=SHA256, cache_dir=tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:1_500_000]
    assert fetch(server.url, sha256=SHA256, cache_dir=tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1500000-"]


def fetch_it(url, folder):
    fetch(url, sha256=SHA256, cache_dir=folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_process_leaves_a_part_and_no_lock(server, tmp_path):
    release = threading.Event()
    server.behaviour = [{"cut": 2_000_000, "wait": release}]
    process = multiprocessing.get_context("spawn").Process(target=fetch_it, args=(server.url, tmp_path))
    process.start()
    part = tmp_path / "file.bin.part"
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size == 2_000_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    release.set()
    assert fetch(server.url, sha256=SHA256, cache_dir=tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=2000000-"]
    assert names(tmp_path) == ["file.bin"]


def test_of_many_at_once_one_fetches_and_the_others_wait(server, tmp_path):
    results = []

    def work():
        results.append(fetch(server.url, sha256=SHA256, cache_dir=tmp_path).read_bytes() == CONTENT)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8
    assert len(server.requests) == 1
    assert names(tmp_path) == ["file.bin"]


def test_nobody_is_in_the_block_twice(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(20):
            with alone(tmp_path / "lock"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(most), max(most)) == (100, 1)
    assert names(tmp_path) == []


# --- files without a published checksum


def test_the_first_download_is_trusted_and_checked_from_then_on(server, tmp_path):
    path = fetch(server.url, sha256=None, cache_dir=tmp_path)
    assert (tmp_path / "file.bin.sha256").read_text() == f"{SHA256}  file.bin\n"
    assert fetch(server.url, sha256=None, cache_dir=tmp_path) == path
    assert len(server.requests) == 1
    path.write_bytes(b"damaged")
    assert fetch(server.url, sha256=None, cache_dir=tmp_path).read_bytes() == CONTENT
    server.content, server.etag = OTHER, '"two"'
    path.unlink()
    with pytest.raises(ValueError, match=rf"must have SHA-256 {SHA256}.*file\.bin\.sha256; delete that to trust the new one"):
        fetch(server.url, sha256=None, cache_dir=tmp_path)
    (tmp_path / "file.bin.sha256").unlink()
    assert fetch(server.url, sha256=None, cache_dir=tmp_path).read_bytes() == OTHER


def test_a_file_put_there_by_hand_is_trusted_if_its_size_fits(server, tmp_path):
    (tmp_path / "file.bin").write_bytes(OTHER)
    assert fetch(server.url, sha256=None, size=len(OTHER), cache_dir=tmp_path).read_bytes() == OTHER
    assert (tmp_path / "file.bin.sha256").read_text().startswith(hashlib.sha256(OTHER).hexdigest())
    (tmp_path / "short.bin").write_bytes(OTHER[:-1])
    assert fetch(server.url, sha256=None, size=len(OTHER), cache_dir=tmp_path, filename="short.bin").read_bytes() == CONTENT


def test_an_unreadable_record_is_refused(server, tmp_path):
    (tmp_path / "file.bin.sha256").write_bytes(b"\xff what?")
    with pytest.raises(ValueError, match=r"file\.bin\.sha256 must hold a SHA-256 and a file name, got other text. Delete it"):
        fetch(server.url, sha256=None, cache_dir=tmp_path)
    assert server.requests == []


# --- progress


def test_progress_begins_with_what_is_there_and_ends_with_all(server, tmp_path):
    calls = []
    server.behaviour = [{"cut": 1_234_567}]
    for error in (True, False):
        with pytest.raises(ConnectionError) if error else nullcontext():
            fetch(server.url, sha256=SHA256, cache_dir=tmp_path, progress=lambda received, total: calls.append((received, total)))
    received = [call[0] for call in calls]
    assert {call[1] for call in calls} == {len(CONTENT)}
    assert received[0] == 0 and received.count(1_234_567) == 2 and received[-1] == len(CONTENT)
    assert received == sorted(received)


def test_nothing_is_printed_where_stderr_is_no_terminal(server, tmp_path, capfd):
    fetch(server.url, sha256=SHA256, cache_dir=tmp_path)
    assert capfd.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("total", [2_000_000, None])
def test_a_terminal_is_shown_a_bar(total, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with terminal_bar("file.bin", stream) as show:
        show(1_000_000, total)
        show(2_000_000, total)
    assert "file.bin" in stream.getvalue()
    assert "2.0" in stream.getvalue()
    assert ("2.0/2.0 MB" in stream.getvalue()) == (total is not None)


# --- the cache


def test_an_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "x") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


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
