"""The programs of `python -m rxrpc`: make a call, take calls, measure, look at an endpoint.

They use the library as anybody would, and know nothing of what is below its public names but the
DEBUG packets that one of them sends.
"""
