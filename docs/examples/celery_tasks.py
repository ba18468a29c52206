"""Celery tasks over one client, made before the worker forks its processes.

    NVIDIA_BASE_URL=http://localhost:8000 celery --app celery_tasks worker --concurrency 4

The broker here is a folder, so that the example needs no service; CELERY_FOLDER says which.
"""

import os
from pathlib import Path

from celery import Celery

from nimclient import Client
from nimclient.errors import RateLimitError, ServerError, TransportError

FOLDER = Path(os.environ.get("CELERY_FOLDER", "celery-folder")).resolve()
for part in ("queue", "control", "results"):
    (FOLDER / part).mkdir(parents=True, exist_ok=True)

app = Celery("celery_tasks", broker="filesystem://", backend=f"file://{FOLDER / 'results'}")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(FOLDER / "queue"),
        "data_folder_out": str(FOLDER / "queue"),
        "control_folder": str(FOLDER / "control"),
    },
)

client = Client()


@app.task(autoretry_for=(TransportError, RateLimitError, ServerError), retry_backoff=True, max_retries=3)
def answer(question: str, model: str | None = None) -> str:
    """The answer to one question."""
    return client.chat.create(question, model=model).text


@app.task
def nearest(question: str, texts: list[str]) -> str:
    """The text that is nearest to the question."""
    return str(client.rerank(question, texts, top_n=1).results[0].document)
