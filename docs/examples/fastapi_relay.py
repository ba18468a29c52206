"""A FastAPI service that relays chat answers to browsers as they are written.

One client serves the application. Each answer is a dependency that lives as long as its response: whether the browser reads
to the end or closes the tab, the stream is closed, and the server stops generating.

    NVIDIA_BASE_URL=http://localhost:8000 uvicorn fastapi_relay:app
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

from nimclient import AsyncClient, ChatStream, NimError


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for as long as the application runs."""
    async with AsyncClient() as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(NimError)
async def refused(request: Request, error: NimError) -> JSONResponse:
    """What goes wrong before the first token has a status of its own."""
    return JSONResponse({"error": str(error)}, status_code=502)


async def opened(request: Request, question: str) -> AsyncIterator[ChatStream]:
    """The answer, its first token there, until the response has been sent or the browser is gone."""
    client: AsyncClient = request.app.state.client
    async with client.chat.stream(question) as stream:
        yield stream


@app.get("/chat")
async def chat(answer: Annotated[ChatStream, Depends(opened)]) -> StreamingResponse:
    """The answer as server-sent events, a piece of text in each; the event `done` is the last one."""

    async def events() -> AsyncIterator[str]:
        async for piece in answer.text_stream:
            yield f"data: {json.dumps(piece)}\n\n"
        yield "event: done\ndata: null\n\n"

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


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
