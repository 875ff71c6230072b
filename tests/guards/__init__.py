"""Tests of the tests: what refuses is taken away, and a test has to notice."""
