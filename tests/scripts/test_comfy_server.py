"""A server that doesn't come up says why, and none outlives its block."""

import os

import comfy_server
import pytest

ANSWERS = """
import http.server, os, pathlib, sys
port, base = (sys.argv[sys.argv.index(name) + 1] for name in ("--port", "--base-directory"))
pathlib.Path(base, "pid").write_text(str(os.getpid()))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")
http.server.HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""


@pytest.fixture
def start(tmp_path):
    """Starts a stand-in for ComfyUI: a `main.py` of the given text."""

    def starter(main):
        (tmp_path / "main.py").write_text(main)
        return comfy_server.comfy_server(tmp_path, tmp_path / "base")

    return starter


def is_alive(base):
    try:
        os.kill(int((base / "pid").read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def test_the_server_lives_in_its_block_and_no_longer(start):
    with start(ANSWERS) as server:
        assert is_alive(server.base)
    assert not is_alive(server.base)


def test_the_server_ends_with_an_error_in_its_block(start, tmp_path):
    with pytest.raises(ZeroDivisionError), start(ANSWERS):
        _ = 1 / 0
    assert not is_alive(tmp_path / "base")


def test_a_server_that_ends_while_starting_shows_its_log(start):
    with (
        pytest.raises(comfy_server.ComfyError, match="no such luck"),
        start("raise SystemExit('no such luck')"),
    ):
        pass


def test_a_server_that_never_answers_is_ended(start, tmp_path, monkeypatch):
    monkeypatch.setattr(comfy_server, "START_SECONDS", 1.5)
    silent = ANSWERS.replace(".serve_forever()", "\nimport time; time.sleep(60)")
    with pytest.raises(comfy_server.ComfyError, match=r"no answer in 1\.5 s"), start(silent):
        pass
    assert not is_alive(tmp_path / "base")


def test_an_error_event_names_the_node_and_the_reason():
    event = {
        "node_type": "EraseAnythingTrain",
        "node_id": "3",
        "exception_type": "ValueError",
        "exception_message": "Got an empty concept.\n",
    }
    with pytest.raises(comfy_server.ComfyError, match=r"EraseAnythingTrain.*Got an empty concept"):
        comfy_server.ended("execution_error", event, lambda _: None)
