"""Ray Data pipelines: from sources to a data set version."""
