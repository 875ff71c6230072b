"""The driver on trio: the only room that knows of sockets, tasks and clocks."""
