"""The scripts that made the committed weights: text, autoencoder, Flux, judge (in that order)."""
