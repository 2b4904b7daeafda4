"""What the end-to-end tests stand on: a cluster, its releases, ways in, load and evidence."""
