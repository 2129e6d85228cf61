"""What made the gallery's pictures and weights: needs npm, node and the packages of making."""
