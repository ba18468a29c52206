"""One call, from Call to record: the retry loop, requests, replicas, what copies of a client share. Knows no body."""
