"""The ``artistmind`` command: one module per noun. Nothing heavy is imported before a command needs it."""
