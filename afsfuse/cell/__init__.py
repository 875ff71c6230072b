"""Cells: where their location servers are, what volumes they have, and on which file servers.

cellservdb.py reads the configuration files, dns.py asks the DNS, directory.py makes both one
directory of cells; location.py talks to the volume location servers of a cell, servers.py keeps
the file servers, volumes.py finds volumes. In that order; each module uses only earlier ones,
sharing.py and addresses.py.
"""
