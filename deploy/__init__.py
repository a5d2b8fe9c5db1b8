"""Everything on one machine with one command. Nothing imports this package."""
