"""The algebra: terms, the flat plans that they compile to, and the one step function over plan and outcome. Pure."""
