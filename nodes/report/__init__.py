"""What an erasure has changed."""
