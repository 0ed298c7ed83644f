"""Tests of the queue classes without a broker."""
