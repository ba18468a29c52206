"""Durable jobs: many texts or requests through one server, written down as they finish, resumed after whatever stopped them.

They stand on the public client, and nothing of the client knows them.
"""

from nimclient.jobs.batch import BatchJob
from nimclient.jobs.embed import EmbedJob
from nimclient.jobs.report import JobReport

__all__ = ["BatchJob", "EmbedJob", "JobReport"]
