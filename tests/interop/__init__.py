"""This client against real OpenAFS servers."""
