"""Where conversations come from. Each source gives rows and says which files and terms they have."""
