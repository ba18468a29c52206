import io
import json
import sys

import pytest

from nimclient.cli import chat
from nimclient.records import ChatCompletion, Choice, Message

FACT = "Paris is the capital of France. What is the capital of France?"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_answer_is_streamed(run, sim):
    """chat streams the answer to standard output, ends it with a line break, and says nothing else."""
    ran = run("chat", FACT, "--base-url", sim.base_url, "--model", "meta/llama-3.1-8b-instruct")
    assert ran.code == 0
    assert "Paris is the capital" in ran.out
    assert ran.out.endswith("\n")
    assert not ran.out.endswith("\n\n")
    assert ran.err == ""
    assert sim.requests[-1].json["stream"] is True


def test_options_are_sent(run, sim):
    """System text, model and sampling options go into the request; options that were not given do not."""
    argv = ("chat", "hi", "--system", "Be brief.", "--model", "meta/llama-3.1-8b-instruct", "--temperature", "0")
    assert run(*argv, "--max-tokens", "9", "--base-url", sim.base_url, "--no-stream").code == 0
    sent = sim.requests[-1].json
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("meta/llama-3.1-8b-instruct", 0, 9)
    assert not sent.get("stream")
    assert run("chat", "hi", "--base-url", sim.base_url).code == 0
    assert not {"temperature", "max_tokens"} & set(sim.requests[-1].json)


def test_no_stream_prints_the_same(run, url):
    """Streamed or not, the text is the same."""
    assert run("chat", FACT, "--base-url", url, "--no-stream").out == run("chat", FACT, "--base-url", url).out


def test_json_is_the_completion(run, url):
    """With --json standard output is the whole completion as one JSON object."""
    ran = run("chat", FACT, "--base-url", url, "--json")
    completion = json.loads(ran.out)
    assert "Paris" in completion["choices"][0]["message"]["content"]
    assert completion["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("argv", [["-"], []])
def test_the_question_comes_from_a_pipe(run, sim, monkeypatch, argv):
    """With "-", or without a question in a pipe, the question is read from standard input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{FACT}\n"))
    ran = run("chat", *argv, "--base-url", sim.base_url)
    assert "Paris" in ran.out
    assert sim.requests[-1].json["messages"] == [{"role": "user", "content": FACT}]


@pytest.mark.parametrize(
    ("stdin", "argv"),
    [(Terminal("typed"), []), (io.StringIO("  \n"), []), (io.StringIO(), ["-"]), (io.StringIO(), [" "])],
)
def test_no_question_is_wrong_usage(run, url, monkeypatch, stdin, argv):
    """No question on a terminal, or an empty one, is a usage error with an example."""
    monkeypatch.setattr(sys, "stdin", stdin)
    ran = run("chat", *argv, "--base-url", url)
    assert (ran.code, ran.out) == (2, "")
    assert 'nimclient chat "' in ran.err


def test_a_question_that_is_no_text(run, url, monkeypatch):
    """Bytes that are no text are a usage error."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xff"), "utf-8"))
    ran = run("chat", "--base-url", url)
    assert ran.code == 2
    assert "UTF-8" in ran.err


def test_thinking_is_announced_not_printed(run, url):
    """Reasoning is announced once on standard error; standard output has the answer only."""
    ran = run("chat", FACT, "--system", "detailed thinking on", "--base-url", url)
    assert ran.err.startswith("thinking …\n")
    assert ran.err.count("thinking") == 1
    assert "Paris" in ran.out
    assert "The question is" not in ran.out


def test_a_cut_answer_is_said_to_be_cut(run, url):
    """An answer that the limit cut off is noted on standard error."""
    ran = run("chat", FACT, "--max-tokens", "3", "--base-url", url)
    assert ran.code == 0
    assert "--max-tokens" in ran.err


def test_an_answer_without_text_is_noted():
    """An answer of tool calls or nothing is noted, for there is nothing to read."""
    choice = Choice(index=0, message=Message("assistant", None), finish_reason="tool_calls")
    completion = ChatCompletion(None, None, (choice,))
    assert "without text (finish_reason tool_calls)" in chat.note_on(completion)


def test_a_model_of_another_kind(run, url):
    """A model that cannot chat is one line and 1."""
    ran = run("chat", "hi", "--model", "nvidia/nv-embedqa-e5-v5", "--base-url", url)
    assert ran.code == 1
    assert "embedding" in ran.err


def test_an_unknown_model(run, url):
    """A model that the server does not have is one line that names the option."""
    ran = run("chat", "hi", "--model", "no/such", "--base-url", url)
    assert ran.code == 1
    assert "--model" in ran.err
