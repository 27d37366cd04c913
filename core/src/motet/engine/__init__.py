"""The shell around the pure core that clients and workers share: load plans, read values, submit, carry out orders."""
