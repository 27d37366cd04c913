"""One worker: receive, resolve, run, decide, settle."""
