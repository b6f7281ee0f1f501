"""The theory that runs: the optimal loss without parameters, its cones, bounds and generalisation gap."""
