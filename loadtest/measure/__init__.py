"""What `run` and `strace-count` are made of: scenarios, servers, bursts, figures, reports."""
