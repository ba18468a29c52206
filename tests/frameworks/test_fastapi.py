"""The FastAPI relay under uvicorn, seen by plain HTTP and by a real browser."""

import json
import shutil
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from frameworks.conftest import Start, announced
from nimclient import Client
from nimclient.simulator import Simulator
from servers.process import says
from support.until import until

QUESTION = "Why are large models served from batches of requests, and what is a token?"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=900,600",
]


SERVERS = {
    "uvicorn": (["--port", "0"], "running on"),
    "uvicorn with h11": (["--port", "0", "--http", "h11"], "running on"),
    "hypercorn": (["--bind", "127.0.0.1:0"], "Running on"),
}


@pytest.fixture
def service(start: Start, request: pytest.FixtureRequest) -> str:
    """The URL of the relay, under uvicorn unless the test names another server."""
    name: str = getattr(request, "param", "uvicorn")
    options, words = SERVERS[name]
    process = start(sys.executable, "-m", name.split()[0], "fastapi_relay:app", *options)
    url = announced(process, words)
    assert says(url, "Ask something")
    return url


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """Chromium without a screen, driven through chromedriver."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or chromium is None:
        pytest.skip("no chromium here: `apt-get install chromium chromium-driver`")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"]:
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def chats(simulator: Simulator) -> list[Any]:
    """The chat requests that the simulator has seen."""
    return [request for request in simulator.requests if request.path.endswith("/chat/completions")]


def whole_answer(simulator: Simulator) -> str:
    """What the simulator answers to the question."""
    with Client(base_url=simulator.base_url) as client:
        return client.chat.create(QUESTION, timeout=60).text


def ask(browser: Any, url: str) -> Any:
    """Open the page, ask, and return the element of the answer."""
    from selenium.webdriver.common.by import By

    browser.get(url)
    browser.find_element(By.NAME, "question").send_keys(QUESTION)
    browser.find_element(By.TAG_NAME, "button").click()
    return browser.find_element(By.ID, "answer")


def test_the_page_shows_tokens_as_they_arrive(
    service: str, simulator: Simulator, browser: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The text grows in the page piece by piece, each state a beginning of the whole answer, and ends as that."""
    from selenium.webdriver.common.by import By

    answer = ask(browser, service)
    seen: list[str] = []
    deadline = time.monotonic() + 30
    while not browser.find_element(By.ID, "state").text.startswith("done") and time.monotonic() < deadline:
        if (text := answer.text) and text not in seen:
            seen.append(text)
            if len(seen) == 8:
                picture = request.config.getoption("--basetemp") or tmp_path
                browser.save_screenshot(str(Path(picture) / "tokens.png"))
        time.sleep(0.03)
    whole = answer.text
    assert whole.split() == whole_answer(simulator).split()
    assert len(seen) > 8
    assert all(whole.startswith(text) for text in seen)
    assert not chats(simulator)[0].disconnected


def test_closing_the_tab_stops_the_generation(service: str, simulator: Simulator, browser: Any) -> None:
    """When the tab is closed in the middle of an answer, the server sees its client leave within half a second."""
    answer = ask(browser, service)
    assert until(lambda: len(answer.text) > 20)
    assert [request.disconnected for request in chats(simulator)] == [False]
    browser.switch_to.new_window("tab")
    browser.switch_to.window(browser.window_handles[0])
    browser.close()
    assert until(lambda: chats(simulator)[0].disconnected)


def events(url: str) -> Iterator[str]:
    """The pieces of an answer, as a client without a browser reads them."""
    with urllib.request.urlopen(f"{url}chat?" + urllib.parse.urlencode({"question": QUESTION})) as response:
        for line in response:
            if line.startswith(b"data: "):
                piece = json.loads(line[6:])
                if piece is None:
                    return
                yield piece


@pytest.mark.parametrize("service", SERVERS, indirect=True)
def test_a_caller_who_hangs_up(service: str, simulator: Simulator) -> None:
    """Who hangs up, before the first token or in the middle, frees the slot, whatever the route; others get their answers."""
    host = urllib.parse.urlsplit(service).netloc
    name, port = host.split(":")
    for route in ("chat", "answer", "blocking"):
        for tokens in (0, 5):
            before = len(chats(simulator))
            path = f"/{route}?" + urllib.parse.urlencode({"question": f"{QUESTION} " * 20})
            with socket.create_connection((name, int(port))) as caller:
                caller.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                assert until(lambda: simulator.running == 1)
                if tokens and route != "answer":
                    assert caller.recv(100)
            assert until(lambda: simulator.running == 0), (route, tokens)
            assert chats(simulator)[before].disconnected, (route, tokens)
    assert "".join(events(service)) == whole_answer(simulator)


def test_an_error_before_the_first_token_has_a_status(service: str, simulator: Simulator) -> None:
    """A question that the client rejects is no broken stream but an answer with a status."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{service}chat?question=")
    assert caught.value.code == 502
    assert "error" in json.loads(caught.value.read())
    caught.value.close()
    assert chats(simulator) == []
