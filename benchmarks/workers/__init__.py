"""A worker per system: a process that trains on a workload, a round at each of its turns. Each runs in its system's own environment."""
