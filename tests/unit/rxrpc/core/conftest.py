"""Calls move only along the arrows of the state table, here as between pairs of cores."""

from tests.pair.conftest import only_listed_transitions as only_listed_transitions
