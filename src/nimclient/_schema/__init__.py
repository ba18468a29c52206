"""Python types to JSON Schema and back; tools; structured output. No I/O, no clock, no HTTP."""
