"""What every package shares: contracts, settings, errors, logging, storage. Imports nothing of ours."""
