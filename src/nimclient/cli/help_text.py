"""The texts of `--help` besides the list of options: descriptions and examples."""

from __future__ import annotations

KEYS = """\
settings: ~/.config/nimclient.toml may hold base_url, model, timeout and api_key_file, also under a name:
[profiles.gpu], chosen with --profile gpu. Options take precedence. A key does not belong in it.
keys: NVIDIA_API_KEY goes to NVIDIA's own hosts only, NVIDIA_NIM_API_KEY to any server you name, the key in
--api-key-file as well. A key is never an argument: arguments are visible to every user of the machine.
exit codes: 0 complete, 1 failed or partial, 2 usage, 130 interrupted.
"""

DESCRIPTION = "The command line of nimclient, a Python client for NVIDIA NIM microservices and vLLM."

EPILOG = (
    """\
examples:
  nimclient demo                                    a demonstration: no key, no GPU, no download
  nimclient demo --query "generate random numbers"  search the Python documentation for this
  nimclient simulate --port 8000                    a NIM-like server on this machine
  nimclient chat "Why is the sky blue?" --base-url http://localhost:8000
  nimclient embed docs.jsonl --out vectors          a file of any size; resumes when run again
  nimclient map "Summarize: {text}" docs.jsonl --out answers.jsonl
  nimclient doctor                                  check what works and what does not
  nimclient bench --concurrency 1,4,16              how fast a server answers

`nimclient COMMAND --help` has the options of each command and more examples.

"""
    + KEYS
)

DEMO = """\
Take the docstrings of Python's standard library (several thousand real texts, no download), embed them,
search them by cosine, rerank the results, and stream an answer that cites them.

The server is the one of --base-url (or NVIDIA_BASE_URL); else the hosted catalog when NVIDIA_API_KEY is set or
--api-key-file is given; else a simulator that is started for the demo. A server that has only embedding or only
chat models runs that half of the demo.
"""

DEMO_EPILOG = (
    """\
examples:
  nimclient demo
  nimclient demo --query "generate random numbers"
  nimclient demo --base-url http://localhost:8000 --model meta/llama-3.1-8b-instruct
  nimclient demo --json --out vectors | python -m json.tool

files: DIR/vectors.f32 (raw little-endian float32, row after row), DIR/texts.jsonl (name and text of each row),
DIR/meta.json (model, dimensions, count). They are written again by every run.
"""
    + KEYS
)

BENCH = """\
Measure how fast a server answers with a number of requests at once: time to first token, inter token
latency, request latency and throughput, by the definitions of NVIDIA's AIPerf and under its names.

Every request is a different text of random words, so that no cache answers it. A first request is not
counted. Nothing is retried: a request that fails is counted as failed. Models decide where an answer
ends; most self-hosted servers generate exactly --output-tokens with -o ignore_eos=true.
"""

BENCH_EPILOG = (
    """\
examples:
  nimclient bench --base-url http://localhost:8000
  nimclient bench --concurrency 1,4,16,64 --output-tokens 256 -o ignore_eos=true --plot bench.png
  nimclient bench --kind embed --batch-size 16 --input-tokens 256 --requests 200
  nimclient bench --kind rerank --json > bench.json

It runs in one process, and says so if it uses most of a core itself.
"""
    + KEYS
)

COMPLETION = """\
Print a script that completes commands, options and their choices in your shell, and files elsewhere.
"""

COMPLETION_EPILOG = """\
examples:
  nimclient completion bash > ~/.local/share/bash-completion/completions/nimclient
  nimclient completion fish > ~/.config/fish/completions/nimclient.fish
  source <(nimclient completion zsh)                      in ~/.zshrc

exit codes: 0 printed, 2 usage.
"""

SIMULATE = """\
Run a NIM-like server on this machine until Ctrl-C: models, chat, completions, embeddings and ranking.

It is a simulator, not a model: embeddings are hashed words, so that texts with words in common are near; chat
answers are sentences quoted from the messages. Protocol, errors, limits and timing are those of a NIM.
"""

SIMULATE_EPILOG = """\
examples:
  nimclient simulate
  nimclient simulate --ttft 0.3 --itl 0.02 --slots 8      timing and slots like a small GPU
  nimclient simulate --rpm 40                             throttles like the hosted catalog
  nimclient simulate --dialect hosted --fault accepted    responds with 202 first, as for slow models
  nimclient simulate --port 0 --json                      a free port, its URL as JSON

exit codes: 0 ended by SIGTERM, 1 failed, 2 usage, 130 interrupted by Ctrl-C.
"""

CHAT = """\
Ask one question and print the answer as it is generated; or, on a terminal without a question, chat with a
model: /help lists the commands, Ctrl-C stops an answer, Ctrl-D ends the conversation.

Standard input is sent below the question. On a terminal reasoning is dimmed and, with
nimclient[cli], Markdown is rendered; a pipe gets only the text of the answer.
"""

CHAT_EPILOG = (
    """\
examples:
  nimclient chat "Why is the sky blue?"
  nimclient chat                                        a conversation; --continue resumes the last one
  nimclient chat --base-url http://localhost:8000 --system "Answer in one sentence." "What is a NIM?"
  git diff | nimclient chat "Review this change."
  nimclient chat "What is in this picture?" --image photo.jpg --model meta/llama-3.2-11b-vision-instruct
  nimclient chat "Name three colors" --json | python -m json.tool

An answer that the token limit cut off ends with exit code 1.
"""
    + KEYS
)

DOCTOR = """\
Check what is at the base URL and what works with it: type and version of the
server, proxy and TLS, models, context length, one small request to a model of each kind, and
whether the key is valid. Each problem comes with a remedy.

A dozen requests are sent and none is repeated. Three of them use a model: one generates a
token, one embeds a text, one ranks two passages. On the hosted catalog they count like any other.
A route that a server does not have is not a problem; a server on which no model answers is one.
"""

DOCTOR_EPILOG = (
    """\
examples:
  nimclient doctor                                      the server of NVIDIA_BASE_URL, else the hosted catalog
  nimclient doctor --base-url http://localhost:8000
  nimclient doctor --model meta/llama-3.1-8b-instruct   with this model only
  nimclient doctor --json | python -m json.tool

"""
    + KEYS
)

MODELS = """\
List the models of the server: id, kind, context length, features.

Kind and features come from nimclient's own table; other models have the kind
"unknown" and can be used as well. The hosted catalog lists models that your account may not
call.
"""

MODELS_EPILOG = (
    """\
examples:
  nimclient models
  nimclient models --kind embedding --base-url http://localhost:8000
  nimclient models --json | python -c "import json, sys; print(json.load(sys.stdin)['data'][0]['id'])"

"""
    + KEYS
)

RERANK = """\
Sort documents by how well they answer a query, best first. The documents are arguments, or the
lines of a file or of standard input; empty lines are skipped. Each line of the output is the score,
the position of the document (from 0) and the document, separated by tabs.
"""

RERANK_EPILOG = (
    """\
examples:
  nimclient rerank "reads csv files" "the json module" "the csv module" --base-url http://localhost:8000
  nimclient rerank "reads csv files" --file documents.txt --top 3
  ls docs | nimclient rerank "how do I test my program" - --json

"""
    + KEYS
)

EMBED = """\
Embed the texts of a file into a folder or a store, however many there are. After an interruption (Ctrl-C, a crash,
a failed server) the same command resumes it, and sends only what is missing.

SOURCE is a .jsonl, .csv, .tsv or Parquet file with the fields of --text and --id, or a .txt file with one text
per line (all but Parquet may be compressed: .gz, .zst); the URL of such a file in an object store, or of
a table; or "-": lines of JSON objects or of text on standard input. DIR may be the URL of a store:
s3://bucket/prefix, gs://, az://, sqlite:///file, lancedb:///folder, qdrant://host:6333, qdrant+https://,
postgresql://user@host/database. A text that the server rejects is written to failures.jsonl with the
server's message; the others are embedded.
"""

EMBED_EPILOG = (
    """\
examples:
  nimclient embed docs.jsonl --out vectors
  nimclient embed docs.csv --out vectors --text body --id url --format npy
  nimclient embed docs.jsonl --out vectors --base-url http://localhost:8000 --concurrency 32
  nimclient embed docs.jsonl --out vectors --shard 0/2       one of two processes; see `nimclient merge`
  nimclient embed docs.jsonl --out vectors --shard 0/2 --share pace       both with one pace
  nimclient embed docs.jsonl --out sqlite:///vectors.db      a store in place of a folder
  zstdcat docs.jsonl.zst | nimclient embed - --out vectors --json

files: DIR/part-00000.parquet … (index, id, vector), or part-00000.npy beside part-00000.ids.jsonl,
or part-00000.jsonl; DIR/manifest.json; DIR/failures.jsonl; the checkpoint.
--json: {"event": "progress", …} about once a second, then "report", "stopped" or "error".

"""
    + KEYS
)

BATCH = """\
Send every request of a file in OpenAI's batch format (custom_id, method, url, body) to a live server
and append each answer to another file in OpenAI's output format. After an interruption the same
command resumes it, and sends only the requests without an answer.

Chat, completions, embeddings and reranking may be mixed: /v1/chat/completions, /v1/completions,
/v1/embeddings, /v1/ranking, /v1/rerank. Failures are written to a file next to the answers
(answers.errors.jsonl).
"""

BATCH_EPILOG = (
    """\
examples:
  nimclient batch requests.jsonl --out answers.jsonl
  nimclient batch requests.jsonl --out answers.jsonl --json > events.jsonl
  nimclient batch requests.jsonl --out answers.jsonl --base-url http://localhost:8000 --concurrency 64

a line of SOURCE: {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions",
                   "body": {"messages": [{"role": "user", "content": "hello"}]}}
--json: {"event": "progress", …} about once a second, then "report", "stopped" or "error".

"""
    + KEYS
)

MAP = """\
Ask a model about every row of a file and append each answer to another file. After an interruption
(Ctrl-C, a crash, a failed server) the same command resumes it, and asks only about rows without an answer.

TEMPLATE is the question: {title} stands for the field `title` of the row, {{ and }} for braces. So does the
text of --system. ROWS is what SOURCE is for `nimclient embed`; a line of text is the field {text}. With
--schema every answer is JSON of that form. Rows that fail (a missing field, an answer that does not fit)
are written to a file next to the answers (answers.errors.jsonl), the others are answered.
"""

MAP_EPILOG = (
    """\
examples:
  nimclient map "Summarize: {text}" docs.jsonl --out answers.jsonl
  nimclient map "Translate into German: {body}" docs.csv --out german.jsonl --id url --max-tokens 200
  nimclient map "Who is named here? {text}" docs.jsonl --out names.jsonl --schema names.json --temperature 0
  zstdcat docs.jsonl.zst | nimclient map "Is this spam? {text}" - --out spam.jsonl --json

a line of FILE: {"index": 0, "id": "a", "text": "…", "finish_reason": "stop", "model": "…", "usage": {…}, "digest": "…"};
with --schema "value" in place of "text". Lines come in the order in which answers finish; index is the row's number.
A finish_reason of "length" is an answer that the token limit cut off. --json: {"event": "progress", …} about once
a second, then "report", "stopped" or "error".

"""
    + KEYS
)

MERGE = """\
Check the shards that `nimclient embed --shard I/N` has embedded into one folder, and write one manifest.json
and one failures.jsonl for them. All must be there, have ended, and agree in source, model, dimensions, format
and options. The parts stay as they are. May be run again.
"""

MERGE_EPILOG = """\
examples:
  nimclient merge vectors
  nimclient merge vectors --json | python -m json.tool
  nimclient merge vectors && ls vectors/manifest.json

exit codes: 0 complete, 1 shards that are missing or do not agree, or some texts failed, 2 usage.
"""
