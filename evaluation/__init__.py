"""Does a character do what it should: sets of items, played over HTTP, scored by rules and by a judge, reported."""
