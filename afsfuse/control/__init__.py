"""How commands talk to daemons: a socket for each daemon, and lines of JSON.

protocol.py has the lines, verbs.py what can be asked and by whom; server.py is the daemon's end,
places.py the commands' end. Commands load neither an event loop nor rxrpc.
"""
