import io
import json
import sys

import pytest

from nimclient.cli import chat
from nimclient.cli.chat_store import Saved, save_last
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
    assert run(*argv, "--max-tokens", "9", "--base-url", sim.base_url, "--no-stream").code == 1  # cut off
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


PIPED = {
    "plain": b"diff --git a b\n+line\n",
    "byte-order mark": b"\xef\xbb\xbfdiff --git a b\r\n+line",
}


@pytest.mark.parametrize("kind", PIPED)
def test_a_question_beside_piped_input_sends_both(run, sim, monkeypatch, kind):
    """`git diff | nimclient chat "Review this"`: the question, a blank line, the input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PIPED[kind]), "utf-8"))
    assert run("chat", " Review this. ", "--base-url", sim.base_url).code == 0
    content = "Review this.\n\ndiff --git a b\n+line"
    assert sim.requests[-1].json["messages"] == [{"role": "user", "content": content}]


def test_a_process_without_standard_input_asks_its_question(run, sim, monkeypatch):
    """A daemon's standard input is closed, or the null device."""
    for stdin in (None, io.TextIOWrapper(io.BytesIO(b""), "utf-8")):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert run("chat", FACT, "--base-url", sim.base_url).code == 0
        assert sim.requests[-1].json["messages"] == [{"role": "user", "content": FACT}]


def test_piped_utf_16_is_named(run, url, monkeypatch):
    """As PowerShell pipes it: a usage error that says how to convert it."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("a question".encode("utf-16")), "utf-8"))
    ran = run("chat", "Summarize this", "--base-url", url)
    assert (ran.code, ran.out) == (2, "")
    assert "standard input is UTF-16 text" in ran.err


def test_options_by_name(run, sim, tmp_path):
    """-o gives any option: JSON where it is JSON, else a text; one that there is not is a usage error."""
    argv = ("chat", "hi", "--base-url", sim.base_url)
    assert run(*argv, "-o", "top_p=0.5", "-o", 'stop=["x"]', "-o", "user=me", "--thinking").code == 0
    sent = sim.requests[-1].json
    assert (sent["top_p"], sent["stop"], sent["user"]) == (0.5, ["x"], "me")
    ran = run(*argv, "-o", "tempreature=1")
    assert ran.code == 2
    assert "tempreature" in ran.err
    ran = run(*argv, "-o", "top_p")
    assert (ran.code, "-o takes NAME=VALUE" in ran.err) == (2, True)


def test_images_are_sent_with_the_question(run, sim, tmp_path):
    """A file as its bytes, a URL as it is; a file that is not there is a usage error."""
    (tmp_path / "dot.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 20)
    images = ("--image", "dot.png", "--image", "https://example.com/a.jpg")
    run("chat", "What is this?", *images, "--model", "meta/llama-3.2-11b-vision-instruct", "--base-url", sim.base_url)
    content = sim.requests[-1].json["messages"][0]["content"]
    assert [part["type"] for part in content] == ["text", "image_url", "image_url"]
    assert content[1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert content[2]["image_url"]["url"] == "https://example.com/a.jpg"
    ran = run("chat", "What is this?", "--image", "gone.png", "--base-url", sim.base_url)
    assert (ran.code, ran.err) == (2, "nimclient: --image gone.png: No such file or directory\n")


def test_an_answer_in_the_form_of_a_schema(run, url, tmp_path):
    """--schema prints the value as JSON; a file that is no schema is a usage error."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    ran = run("chat", FACT, "--schema", "schema.json", "--base-url", url)
    assert ran.code == 0
    assert isinstance(json.loads(ran.out)["city"], str)
    (tmp_path / "schema.json").write_text("[")
    assert run("chat", FACT, "--schema", "schema.json", "--base-url", url).code == 2


def test_verbose_says_what_the_request_was(run, url):
    """-v: URL, model, timings and usage on standard error."""
    ran = run("chat", FACT, "-v", "--base-url", url)
    assert url in ran.err
    assert "first token after" in ran.err
    assert "answer tokens" in ran.err


def test_a_conversation_is_continued(run, sim, tmp_path, monkeypatch):
    """--continue sends what was said last; without anything to continue it is a usage error."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    ran = run("chat", "and then?", "--continue", "--base-url", sim.base_url)
    assert (ran.code, "no conversation to continue" in ran.err) == (2, True)
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    save_last(Saved(said))
    assert (tmp_path / "nimclient" / "conversation.json").stat().st_mode & 0o777 == 0o600
    assert run("chat", "and then?", "--continue", "--system", "Be kind.", "--base-url", sim.base_url).code == 0
    sent = sim.requests[-1].json["messages"]
    assert sent == [{"role": "system", "content": "Be kind."}, *said, {"role": "user", "content": "and then?"}]
    (tmp_path / "nimclient" / "conversation.json").write_text("{}")
    assert run("chat", "and then?", "--continue", "--base-url", sim.base_url).code == 2


def test_thinking_is_announced_not_printed(run, url):
    """Reasoning is announced once on standard error; standard output has the answer only."""
    ran = run("chat", FACT, "--system", "detailed thinking on", "--base-url", url)
    assert ran.err.startswith("thinking …\n")
    assert ran.err.count("thinking") == 1
    assert "Paris" in ran.out
    assert "The question is" not in ran.out


def test_a_cut_answer_is_said_to_be_cut(run, url):
    """An answer that the limit cut off is noted on standard error, and is not complete."""
    ran = run("chat", FACT, "--max-tokens", "3", "--base-url", url)
    assert ran.code == 1
    assert "--max-tokens" in ran.err


def test_an_answer_without_text_is_noted():
    """An answer of tool calls or nothing is noted, for there is nothing to read."""
    choice = Choice(index=0, message=Message("assistant", None), finish_reason="tool_calls")
    completion = ChatCompletion(None, None, (choice,))
    assert "without text (finish_reason tool_calls)" in chat.note_on(completion)


def test_a_model_of_another_kind(run, url):
    """A model that cannot chat is a usage error, as it is for a job."""
    ran = run("chat", "hi", "--model", "nvidia/nv-embedqa-e5-v5", "--base-url", url)
    assert ran.code == 2
    assert "embedding" in ran.err


def test_an_unknown_model(run, url):
    """A model that the server does not have is one line that names the option."""
    ran = run("chat", "hi", "--model", "no/such", "--base-url", url)
    assert ran.code == 1
    assert "--model" in ran.err
