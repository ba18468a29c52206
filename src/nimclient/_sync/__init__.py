"""The blocking client: the async one, run in one background loop that all clients of the process share."""
