"""A real ComfyUI in a process of its own: started, asked to run prompts, and always stopped."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import aiohttp

PACK = Path(__file__).resolve().parent.parent
PACK_NAME = "ComfyUI-EraseAnything"  # without a dot: the page loads nothing from such folders
START_SECONDS = 300
STOP_SECONDS = 10
LOG_LINES_SHOWN = 30

# A proxy in the environment must not come between us and our own machine.
_open = build_opener(ProxyHandler({})).open


class ComfyError(RuntimeError):
    """The server refused or failed; the message holds what it said."""


@dataclass(frozen=True)
class Progress:
    """One node at work: `value` of `maximum`, both 0 where it has only begun."""

    node_id: str
    value: int
    maximum: int


OnProgress = Callable[[Progress], None]


@contextmanager
def comfy_server(
    comfyui: Path, base: Path, *, options: tuple[str, ...] = (), pack: Path = PACK
) -> Iterator[Server]:
    """Starts the ComfyUI at `comfyui` with the pack in it, on the CPU and a free port.

    All that the server reads and writes lies in `base` (models, output, user, ...): nothing of a
    user's own ComfyUI is touched. Raises ComfyError with the end of the log if it doesn't come up.
    """
    prepare_base(base, pack)
    port = free_port()
    log = base / "server.log"
    with log.open("w") as sink:
        process = subprocess.Popen(
            [*server_command(comfyui, base, port), *options],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        server = Server(f"http://127.0.0.1:{port}", base, log, process, options)
        server.wait_until_ready()
        yield server
    finally:
        stop(process)


def prepare_base(base: Path, pack: Path) -> None:
    """The folders a ComfyUI expects, with the pack linked in as its only custom node."""
    for name in ("custom_nodes", "input", "models/loras", "output", "temp", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    link = base / "custom_nodes" / PACK_NAME
    link.unlink(missing_ok=True)
    link.symlink_to(pack, target_is_directory=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def server_command(comfyui: Path, base: Path, port: int) -> list[str]:
    settings = {
        "--port": str(port),
        "--base-directory": str(base),
        # Its default lies in ComfyUI's own tree, whatever the base directory.
        "--database-url": f"sqlite:///{base / 'user' / 'comfyui.db'}",
    }
    switches = ["--cpu", "--disable-auto-launch", "--disable-api-nodes"]
    pairs = [word for pair in settings.items() for word in pair]
    return [sys.executable, str(comfyui / "main.py"), *switches, *pairs]


def stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the process to end, and ends it if it doesn't."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Server:
    """A running ComfyUI."""

    url: str
    base: Path
    log: Path
    process: subprocess.Popen[bytes]
    options: tuple[str, ...] = ()

    def wait_until_ready(self) -> None:
        """Returns once the server answers."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ComfyError(f"ComfyUI ended while starting.\n{self.end_of_log()}")
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.2)
        raise ComfyError(f"ComfyUI gave no answer in {START_SECONDS} s.\n{self.end_of_log()}")

    def end_of_log(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join([f"The end of {self.log}:", *lines[-LOG_LINES_SHOWN:]])

    def get(self, path: str) -> Any:
        """The JSON at `path`."""
        with _open(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def object_info(self) -> dict[str, Any]:
        """Every node's inputs and outputs, by class name."""
        return self.get("/object_info")

    def queue(self, prompt: dict[str, Any], client_id: str) -> str:
        """Puts a prompt (API format) in the queue; returns its id. ComfyError if it is refused."""
        body = json.dumps({"prompt": prompt, "client_id": client_id}).encode()
        request = Request(f"{self.url}/prompt", body, {"Content-Type": "application/json"})
        try:
            with _open(request, timeout=60) as answer:
                accepted = json.load(answer)
        except HTTPError as refusal:
            raise ComfyError(refusal_text(json.load(refusal))) from None
        # One bad node among good ones is dropped with a success status; here that is an error.
        if accepted.get("node_errors"):
            raise ComfyError(refusal_text(accepted))
        return accepted["prompt_id"]

    def run(
        self, prompt: dict[str, Any], on_progress: OnProgress = lambda _: None
    ) -> dict[str, Any]:
        """Queues a prompt and follows it to its end; returns what its nodes showed, by node id."""
        prompt_id = asyncio.run(self._follow(prompt, on_progress))
        return self.get(f"/history/{prompt_id}")[prompt_id]["outputs"]

    async def _follow(self, prompt: dict[str, Any], on_progress: OnProgress) -> str:
        client_id = uuid.uuid4().hex
        address = f"{self.url}/ws?clientId={client_id}"
        async with aiohttp.ClientSession() as session, session.ws_connect(address) as events:
            prompt_id = self.queue(prompt, client_id)
            async for message in events:
                if message.type is not aiohttp.WSMsgType.TEXT:  # binary ones are previews
                    continue
                event = message.json()
                data = event["data"]
                if data.get("prompt_id") == prompt_id and ended(event["type"], data, on_progress):
                    return prompt_id
        raise ComfyError(f"ComfyUI closed the connection.\n{self.end_of_log()}")

    def files(self, shown: dict[str, Any]) -> list[Path]:
        """Where the pictures lie that one node showed: `shown` is its part of `run`'s answer."""
        return [
            self.base / picture["type"] / picture["subfolder"] / picture["filename"]
            for picture in shown.get("images", [])
        ]


def ended(kind: str, data: dict[str, Any], on_progress: OnProgress) -> bool:
    """Passes one event of our prompt on; True at its end, ComfyError at a bad one."""
    if kind == "execution_error":
        raise ComfyError(
            f"{data['node_type']} (node {data['node_id']}) failed: "
            f"{data['exception_type']}: {data['exception_message'].strip()}"
        )
    if kind == "execution_interrupted":
        raise ComfyError(f"Interrupted at {data['node_type']} (node {data['node_id']}).")
    if kind == "progress":
        on_progress(Progress(data["node"], data["value"], data["max"]))
    if kind != "executing":
        return False
    if data["node"]:
        on_progress(Progress(data["node"], 0, 0))
    return not data["node"]


def refusal_text(answer: dict[str, Any]) -> str:
    """The server's reasons for refusing a prompt, a line each."""
    error = answer.get("error")
    reasons = [f"{error['message']} {error['details']}".strip()] if error else []
    for node_id, node in answer.get("node_errors", {}).items():
        for problem in node["errors"]:
            place = f"{node['class_type']} (node {node_id})"
            reasons.append(f"{place}: {problem['message']}: {problem['details']}")
    return "ComfyUI refused the workflow.\n" + "\n".join(reasons)
