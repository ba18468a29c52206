"""The pure functions between Python types and JSON, named in one place for the files of tests that share them."""

from nimclient._schema.json_schema import Schema
from nimclient._schema.schema import convert, schema_of, shape_of
from nimclient._schema.shapes import Misfit
from nimclient._schema.structured import output_of, read_output
from nimclient.records._plain import plain

__all__ = ["Misfit", "Schema", "convert", "output_of", "plain", "read_output", "schema_of", "shape_of"]
