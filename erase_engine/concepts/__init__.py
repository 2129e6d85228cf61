"""From a person's words to prompts."""
