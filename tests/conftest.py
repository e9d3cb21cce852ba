"""What holds for every test."""

from hypothesis import settings

# An example that is slow on a busy machine is no failure: speed is measured in benchmarks, not in tests.
settings.register_profile("ours", deadline=None)
settings.load_profile("ours")
