"""Apps of the acceptance tests."""
