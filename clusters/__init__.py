"""Where a search runs: this machine, a Ray cluster, a cloud, Kubernetes or Slurm."""
