"""Shared by all layers: JSON, plain values, settings and secrets, warnings, the caller's callbacks. Knows no route."""
