"""Background tasks that compose, on the broker you already run."""
