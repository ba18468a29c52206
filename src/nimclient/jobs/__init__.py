"""Durable jobs: many texts or requests through one server, saved as they finish, and resumed after an interruption.

Built on the public client and `_resources.bulk`; the client does not depend on them.
"""

from nimclient.jobs.batch import BatchJob
from nimclient.jobs.embed import EmbedJob
from nimclient.jobs.map import MapJob
from nimclient.jobs.merging import merge_shards
from nimclient.jobs.report import JobReport
from nimclient.jobs.sinks.base import Sink, SinkSlice

__all__ = ["BatchJob", "EmbedJob", "JobReport", "MapJob", "Sink", "SinkSlice", "merge_shards"]
