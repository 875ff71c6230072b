"""Who asks, what tokens he has, and how the servers are told.

token.py is the value, store.py keeps tokens by identity, in files.py of folders.py, with
following.py and renewing.py as its tasks. processes.py and identity.py find out who is asking.
acquire.py gets tokens by kerberos.py, renewal.py gets them again; complaints.py says what went
wrong. keyring.py shows tokens to the kernel's tools, hardening.py keeps keys from others.
security.py is the border to rxrpc.

Rules: what `afsfuse.control` and `afsfuse.tools` use of it loads neither trio nor rxrpc, that is
all but following.py, renewing.py and security.py. Docs: docs/identity.md.
"""
