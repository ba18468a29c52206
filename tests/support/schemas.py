"""The pure functions between Python types and JSON, named in one place for the files of tests that share them."""

from nimclient._schema.json_schema import Schema
from nimclient._schema.schema import convert, schema_of, shape_of
from nimclient._schema.shapes import Misfit
from nimclient._schema.structured import FORM_NAMES, Via, answer_json, output_of, read_output
from nimclient.records._plain import plain

__all__ = [
    "FORM_NAMES",
    "Misfit",
    "Schema",
    "Via",
    "answer_json",
    "convert",
    "output_of",
    "plain",
    "read_output",
    "schema_of",
    "shape_of",
]
