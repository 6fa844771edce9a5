"""Times what people use for many Lasso problems beside this project: see `run --help` and docs/benchmarks/peers.md."""
