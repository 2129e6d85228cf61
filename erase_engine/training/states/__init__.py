"""Where the states that a step looks at come from."""
