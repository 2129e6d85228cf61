"""The closed form: an erasure solved as least squares over text features."""
