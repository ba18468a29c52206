"""The background loop of blocking clients: what a test runs in it beside their calls, and what it changes about it."""

from nimclient._sync import portal

__all__ = ["portal", "run_in_portal"]

run_in_portal = portal.PORTAL.run
