"""From a Call to its record: the retry loop, requests, replicas, state shared by copies of a client. Knows no body."""
