"""Helpers of the tests: a scripted raw-socket server, wire fragments, and harnesses for cancellation and leaks."""
