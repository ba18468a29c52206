"""Sinks: where the vectors of an EmbedJob go, other than a folder. A new kind of store is one class of four methods.

A sink knows its store and nothing of jobs: which rows are done, and what failed, is in the records that it keeps.
"""

from nimclient.jobs.sinks.base import Sink, SinkSlice
from nimclient.jobs.sinks.lance import LanceSink
from nimclient.jobs.sinks.objects import ObjectSink
from nimclient.jobs.sinks.postgres import PostgresSink
from nimclient.jobs.sinks.qdrant import QdrantSink
from nimclient.jobs.sinks.sqlite import SQLiteSink

__all__ = ["LanceSink", "ObjectSink", "PostgresSink", "QdrantSink", "SQLiteSink", "Sink", "SinkSlice"]
