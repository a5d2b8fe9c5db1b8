"""Small processes that stand in for large ones in tests."""
