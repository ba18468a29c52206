"""A FastAPI service that relays chat answers to browsers as they are written.

One client serves the application. Each answer is a dependency that lives as long as its response: whether the browser reads
to the end or closes the tab, the stream is closed, and the server stops generating. A web server notices that a browser has
gone only while it sends a stream: `unless_gone` does so while the first token, or a plain answer, is waited for.

    NVIDIA_BASE_URL=http://localhost:8000 uvicorn fastapi_relay:app
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

from nimclient import AsyncClient, ChatStream, Client, NimError, SyncChatStream

T = TypeVar("T")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for as long as the application runs, and one for routes that block."""
    async with AsyncClient() as client:
        app.state.client, app.state.blocking = client, Client()
        yield
        app.state.blocking.close()


app = FastAPI(lifespan=lifespan)


@app.exception_handler(NimError)
async def refused(request: Request, error: NimError) -> JSONResponse:
    """What goes wrong before the first token has a status of its own."""
    return JSONResponse({"error": str(error)}, status_code=502)


async def unless_gone(request: Request, call: Awaitable[T]) -> T:
    """The result of a call, which is cancelled when the browser goes away."""
    task = asyncio.ensure_future(call)
    watch = asyncio.ensure_future(gone(request))
    watch.add_done_callback(lambda _: task.cancel())
    try:
        return await task
    except asyncio.CancelledError:
        if watch.done():
            raise HTTPException(499, "the caller has gone") from None
        raise
    finally:
        watch.cancel()


async def gone(request: Request) -> None:
    """Wait until the browser has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def opened(request: Request, question: str) -> AsyncIterator[ChatStream]:
    """The answer, its first token there, until the response has been sent or the browser is gone."""
    client: AsyncClient = request.app.state.client
    async with await unless_gone(request, client.chat.stream(question)) as stream:
        yield stream


@app.get("/chat")
async def chat(answer: Annotated[ChatStream, Depends(opened)]) -> StreamingResponse:
    """The answer as server-sent events, a piece of text in each; the event `done` is the last one."""

    async def events() -> AsyncIterator[str]:
        async for piece in answer.text_stream:
            yield f"data: {json.dumps(piece)}\n\n"
        yield "event: done\ndata: null\n\n"

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


@app.get("/answer")
async def answer(request: Request, question: str) -> dict[str, str]:
    """The whole answer in one piece."""
    client: AsyncClient = request.app.state.client
    reply = await unless_gone(request, client.chat.create(question))
    return {"answer": reply.text}


def opened_in_a_thread(request: Request, question: str) -> Iterator[SyncChatStream]:
    """The same for a route that blocks: a generator of its own would not be closed when the browser goes away."""
    client: Client = request.app.state.blocking
    with client.chat.stream(question) as stream:
        yield stream


@app.get("/blocking")
def blocking(answer: Annotated[SyncChatStream, Depends(opened_in_a_thread)]) -> StreamingResponse:
    """The answer as plain text. Each chunk is handed on, also one without text: between two a thread cannot be left."""
    return StreamingResponse((chunk.text for chunk in answer), media_type="text/plain")


@app.get("/")
async def page() -> HTMLResponse:
    """A page that shows the tokens as they arrive."""
    return HTMLResponse(PAGE)


PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Ask</title>
<style>
  body { font: 18px/1.5 system-ui, sans-serif; max-width: 40em; margin: 3em auto; padding: 0 1em; color: #1a1a1a }
  form { display: flex; gap: .5em }
  input { flex: 1; font: inherit; padding: .4em .6em; border: 1px solid #999; border-radius: 6px }
  button { font: inherit; padding: .4em 1.2em; border: 0; border-radius: 6px; background: #76b900; color: #fff }
  #answer { white-space: pre-wrap; min-height: 8em; margin-top: 1.5em; padding: 1em; background: #f4f6f0; border-radius: 6px }
  #state { color: #666; font-size: 15px }
</style>
<form id="ask"><input name="question" placeholder="Ask something" required autofocus><button>Ask</button></form>
<div id="answer"></div>
<p id="state">ready</p>
<script>
  const answer = document.getElementById("answer"), state = document.getElementById("state");
  let source = null, tokens = 0;
  document.getElementById("ask").onsubmit = (event) => {
    event.preventDefault();
    if (source) source.close();
    answer.textContent = "";
    tokens = 0;
    source = new EventSource("/chat?" + new URLSearchParams(new FormData(event.target)));
    source.onmessage = (message) => {
      answer.textContent += JSON.parse(message.data);
      state.textContent = `${++tokens} pieces so far`;
    };
    source.addEventListener("done", () => { source.close(); state.textContent = `done: ${tokens} pieces`; });
    source.onerror = () => { source.close(); state.textContent = "the answer broke off"; };
  };
</script>
"""
