"""Classification of failures in one table, and when to retry: policy, backoff, Retry-After, budget. No I/O, no clock."""
