"""What a failure means, in one table, and when to try again: policy, backoff, Retry-After, budget. No I/O, no clock."""
