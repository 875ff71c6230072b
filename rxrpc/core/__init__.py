"""The protocol without input and output: time and randomness are arguments.

Four verbs drive it: `receive_datagram`, `datagrams_to_send`, `deadline`, `events`. Nothing here
blocks, sleeps or reads a clock, so every behaviour can be tested with numbers.
"""
