"""The erasure benchmark: `python -m benchmarks.erasure --quick` or `--full`."""
